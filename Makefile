# The same names for people and for CI. `make help` lists them.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Without cached bytecode every stage would compile its imports again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint bench lock clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: .venv/installed ## set up .venv and run the whole pipeline on the embedded digits
	dvc repro
	@cat artifacts/evaluate/table.txt artifacts/promote/summary.txt

test: .venv/installed ## run the tests
	pytest -n 2

lint: .venv/installed ## check style, types and the direction of imports
	ruff check
	ruff format --check
	mypy
	lint-imports

bench: .venv/installed ## measure what is claimed fast; writes benchmarks/latest.json
	python benchmarks/run.py

lock: ## resolve requirements.lock anew
	uv pip compile pyproject.toml --all-extras --no-emit-index-url --quiet \
	  --find-links "$${PIP_FIND_LINKS:-.}" --custom-compile-command "make lock" -o requirements.lock
	sed -i 's/+cpu$$//' requirements.lock

# uv installs in seconds where pip takes minutes, but does not read pip's configuration; where it
# cannot reach the packages, pip does it.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv
	UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock \
	  || $(BIN)/pip install --quiet -r requirements.lock
	UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e . \
	  || $(BIN)/pip install --quiet --no-deps -e .
	touch $@

clean: ## remove everything that a run leaves behind, except .venv
	rm -rf artifacts mlflow.db mlruns dvc.lock .dvc/cache .dvc/tmp benchmarks/latest.json
