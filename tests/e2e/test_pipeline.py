"""The whole pipeline through the command line, on real digits: what it leaves, and what one can rely on."""

import itertools
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from fineprune.cli import main
from fineprune.data.format import Dataset
from fineprune.models.format import load_model, model_digest
from fineprune.reporting import report as report_module

from .warm import Warm
from .workspace import Workspace

SCHEMA = json.loads(Path(report_module.__file__).with_name("report.schema.json").read_text())
Read = Callable[[str], dict[str, Any]]


def test_every_command_of_dvc_yaml_succeeds(chain: Workspace) -> None:
    codes = json.loads((chain.path / "codes.json").read_text())
    assert codes == dict.fromkeys(chain.commands, 0)
    assert len(codes) == 11


def test_every_report_fits_the_schema(chain: Workspace, report: Read) -> None:
    for name, command in chain.commands.items():
        told = report(name)
        jsonschema.validate(told, SCHEMA)
        assert told["stage"] == command.stage


def test_a_run_leaves_nothing_half_done(chain: Workspace) -> None:
    assert not list((chain.path / "artifacts").rglob(".*"))


def test_the_evaluation_has_every_figure_that_others_rely_on(report: Read) -> None:
    told = report("evaluate")
    assert (told["case"], told["attack"], told["seed"]) == ("digits", "baseline", 0)
    for model in ("control", "undefended", "pruned", "fine_tuned", "fine_pruned"):
        for figure in ("clean_accuracy", "backdoor_success", "robust_accuracy", "utility"):
            entry = told["models"][model][figure]
            assert set(entry) == {"value", "low", "high", "n"}
            assert entry["low"] <= entry["value"] <= entry["high"]
            assert entry["n"] >= 100


def test_the_evaluation_names_the_very_models_that_it_measured(chain: Workspace, report: Read) -> None:
    told, given = report("evaluate"), chain.ports("evaluate")
    for model, row in told["models"].items():
        assert row["digest"] == model_digest(given[model])
        assert row["digest"] == told["inputs"][model]


def test_a_control_that_was_fine_tuned_alone_is_measured_where_there_is_one(
    chain: Workspace, report: Read, tmp_path: Path
) -> None:
    another = chain.ports("evaluate")["control_fine_pruned"]
    argv = chain.argv("evaluate", flags=("--control-fine-tuned", str(another)), report=tmp_path / "report")
    assert main(argv) == 0
    told, before = json.loads((tmp_path / "report" / "report.json").read_text()), report("evaluate")
    assert told["models"] == before["models"] | {
        "control_fine_tuned": before["models"]["control_fine_pruned"]
    }
    assert told["inputs"]["control_fine_tuned"] == before["inputs"]["control_fine_pruned"]


def test_a_report_pins_its_inputs_by_the_outputs_of_the_stage_before(report: Read) -> None:
    assert report("attack")["inputs"]["dataset"] == report("ingest")["outputs"]["dataset"]
    assert report("prune@undefended")["inputs"]["model"] == report("attack")["outputs"]["undefended"]
    assert (
        report("finetune@fine_pruned")["inputs"]["model"] == report("prune@undefended")["outputs"]["pruned"]
    )
    assert report("promote")["inputs"]["fine_pruned"] == report("finetune@fine_pruned")["outputs"]["tuned"]


def test_the_attack_takes_on_digits_as_the_defaults_have_it(report: Read) -> None:
    told = report("evaluate")
    undefended, control = told["models"]["undefended"], told["models"]["control"]
    assert undefended["backdoor_success"]["value"] >= 0.95
    assert undefended["clean_accuracy"]["value"] >= control["clean_accuracy"]["value"] - 0.02
    assert control["backdoor_success"]["value"] <= 0.3
    assert told["attack_took"]["took"] is True


def test_the_decision_has_every_key_that_others_rely_on(chain: Workspace) -> None:
    given = chain.ports("promote")
    decision = json.loads((given["report"] / "decision.json").read_text())
    assert decision["verdict"] in ("promoted", "held")
    assert decision["reasons"]
    assert decision["model_digest"] == model_digest(given["fine_pruned"])
    assert decision["registered_version"] == "1"


class Fetched(HTMLParser):
    """The addresses that a browser would load to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "data")]


def test_the_page_needs_nothing_but_a_browser(chain: Workspace) -> None:
    page = (chain.ports("evaluate")["report"] / "report.html").read_text()
    fetched = Fetched()
    fetched.feed(page)
    assert sum(address.startswith("data:image/png;base64,") for address in fetched.found) >= 7
    assert [a for a in fetched.found if not a.startswith(("data:", "#"))] == []
    assert re.findall(r"@import|url\((?!['\"]?data:)|<script", page) == []


def test_the_same_seed_gives_the_same_models_to_the_byte_in_another_process(
    chain: Workspace, warm: Warm, tmp_path: Path
) -> None:
    def here(argv: list[str]) -> int:
        return main(argv)

    def elsewhere(argv: list[str]) -> int:
        return warm.run(argv, folder=tmp_path).returncode

    one = _attack_and_defend(chain, here, tmp_path / "one", seed=0)
    two = _attack_and_defend(chain, elsewhere, tmp_path / "two", seed=0)
    other = _attack_and_defend(chain, elsewhere, tmp_path / "other", seed=1)
    assert one == two
    assert all(one[name] != other[name] for name in one)


def _attack_and_defend(
    chain: Workspace, run: Callable[[list[str]], int], folder: Path, *, seed: int
) -> dict[str, str]:
    """The digest of every model, with few epochs."""
    out = {name: folder / name for name in ("control", "undefended", "attack", "profile", "pruned", "tuned")}
    brief = {"epochs": 1}
    attack = {"start": brief, "train": brief, "seed": seed, "model": {"arguments": {"width": 8}}}
    delivered = {"model": out["undefended"], "profile": out["profile"]}
    reports = ({"report": folder / f"report{number}"} for number in itertools.count())
    made = {name: out[name] for name in ("control", "undefended", "attack")}
    assert run(chain.argv("attack", changes=attack, **made, **next(reports))) == 0
    assert run(chain.argv("profile@undefended", **delivered, **next(reports))) == 0
    prune = {"tolerance": 0.3}
    assert (
        run(chain.argv("prune@undefended", changes=prune, pruned=out["pruned"], **delivered, **next(reports)))
        == 0
    )
    tuned = {"model": out["pruned"], "tuned": out["tuned"]}
    assert run(chain.argv("finetune@fine_pruned", changes={"seed": seed}, **tuned, **next(reports))) == 0
    return {name: model_digest(out[name]) for name in ("control", "undefended", "pruned", "tuned")}


@pytest.fixture
def registry(chain: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of one's own, with what the chain's promote left in it."""
    shutil.copy(chain.path / "mlflow.db", tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_only_a_pass_moves_the_champion_and_what_it_names_loads_without_pickle(
    chain: Workspace, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    client, name = mlflow.MlflowClient(registry), chain.section("promote")["registered_name"]

    def promote(*flags: str, **changes: Any) -> int:
        argv = chain.argv("promote", changes=changes, flags=flags, report=tmp_path / "promote")
        return main(argv)

    def aliases() -> dict[str, str]:
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}

    strict, lenient = {"min_utility": 1.0}, {"min_utility": -1, "max_clean_loss": 1}
    assert promote("--fail-on-hold", **strict) == 3
    assert promote(**strict) == 0
    assert "champion" not in aliases()
    held = json.loads((tmp_path / "promote" / "decision.json").read_text())
    assert held["verdict"] == "held"
    assert any("min_utility" in reason for reason in held["reasons"])

    assert promote("--fail-on-hold", **lenient) == 0
    passed = json.loads((tmp_path / "promote" / "decision.json").read_text())
    assert passed["verdict"] == "promoted"
    assert aliases() == {"champion": passed["registered_version"]}

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    registered = mlflow.pytorch.load_model(f"models:/{name}@champion")
    dataset = Dataset(chain.ports("promote")["dataset"])
    inputs = torch.from_numpy(dataset.inputs(dataset.splits["test"][:64]))
    with torch.inference_mode():
        expected = load_model(chain.ports("promote")["fine_pruned"])(inputs).numpy()
        found = registered(inputs).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
