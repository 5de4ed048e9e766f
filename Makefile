# The same names for people and for CI. `make help` lists them.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Without cached bytecode every stage would compile its imports again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo tables test lint bench lock clean
.PHONY: docker-engine base-image images stack stack-stop kubeflow-local test-containers

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

# On so small a network threads wait for each other for longer than they work: minutes, where a core is busy.
demo: export OMP_NUM_THREADS ?= 1
demo: .venv/installed ## set up .venv and run the whole pipeline on the embedded digits
	dvc repro
	@cat artifacts/evaluate/table.txt artifacts/promote/summary.txt

tables: .venv/installed ## both result tables of the paper; PROFILE=quick|real|full JOBS=N ARGS="--case lfw --source lfw=PATH …"
	python -m tables $(or $(PROFILE),quick) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

test: .venv/installed ## run the tests
	pytest -n 2

lint: .venv/installed ## check style, types and the direction of imports
	ruff check
	ruff format --check
	mypy
	lint-imports

docker-engine: ## start a Docker Engine where none answers (Debian, root)
	docker/engine.sh

base-image: docker-engine ## make a Python base image from Debian's packages, where no registry can be reached
	docker/base_image.sh

images: .venv/installed docker-engine ## build the stages' images; for a cluster TORCH=cuda REGISTRY=HOST/PATH
	python docker/images.py --torch $(or $(TORCH),auto) $(if $(REGISTRY),--registry $(REGISTRY) --push) \
	  $(if $(PLATFORM),--platform $(PLATFORM)) \
	  $(if $(shell docker compose version 2>/dev/null),--server)

stack: .venv/installed ## start MLflow with Postgres and an S3 store on this machine
	python docker/stack.py start

stack-stop: .venv/installed ## stop them; the data stays in .stack
	python docker/stack.py stop

kubeflow-local: images ## compile the graph and run it here, every stage in its container; ARGS="source=… --set …"
	python -m pipeline compile
	@if [ -z "$$MLFLOW_TRACKING_URI" ]; then \
	  python docker/stack.py start && eval "$$(python docker/stack.py env | grep MLFLOW_TRACKING_URI=)" || exit 1; \
	fi; python -m pipeline local --local-images $(ARGS) || [ $$? -eq 3 ] # held is a result too

test-containers: .venv/installed ## build the images and run the pipeline and its faults in containers
	pytest tests/containers

bench: .venv/installed ## measure what is claimed fast; writes benchmarks/latest.json
	python benchmarks/run.py

lock: ## resolve requirements.lock anew
	uv pip compile pyproject.toml --all-extras --upgrade --no-emit-index-url --quiet \
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

clean: ## remove everything that a run leaves behind, except .venv, images and DVC's experiments
	[ ! -d .stack ] || python docker/stack.py stop
	rm -rf .stack docker/wheelhouse/*.whl
	rm -rf artifacts mlflow.db mlruns dvc.lock tables/dvc.lock .dvc/cache .dvc/tmp benchmarks/latest.json
