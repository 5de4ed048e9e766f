"""From a command line to a run's parameters: typed, laid over the case and the package, and checked."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.package import FOLDER
from pipeline.parameters import ROOT, defaults

from .kfp_stand_in import KfpStandIn
from .submitting import SWEEP, assert_refused, parameters, refused, submit, sweep_run

pytestmark = pytest.mark.usefixtures("check_current")


def test_typed_parameters(kfp: KfpStandIn) -> None:
    given = ("min_utility=1", "registered_name=7", 'profile={"measure": "post_pool", "batch_size": 64}')
    assert submit(kfp, *given) == 0
    profile = {"measure": "post_pool", "batch_size": 64}
    assert parameters(kfp) == {"min_utility": 1.0, "registered_name": "7", "profile": profile}


def test_a_value_may_hold_an_equals_sign(kfp: KfpStandIn) -> None:
    assert submit(kfp, "source=s3://bucket/a=b", "--set", "ingest.licence=CC=0") == 0
    sent = parameters(kfp)
    assert (sent["source"], sent["ingest"]["licence"]) == ("s3://bucket/a=b", "CC=0")


def test_one_key_of_a_section(kfp: KfpStandIn) -> None:
    changes = ("--set", "attack.poison.rate=0.05", "--set", "attack.seed=3")
    assert submit(kfp, *changes) == 0
    expected = defaults("digits")["attack"]
    expected["poison"]["rate"], expected["seed"] = 0.05, 3
    assert parameters(kfp) == {"attack": expected}


def test_a_case(kfp: KfpStandIn) -> None:
    given = ("--set", "finetune.recipe.epochs=2", "min_utility=0.5", "source=s3://bucket/speech")
    assert submit(kfp, "--case", "fsdd", *given) == 0
    sent, case = parameters(kfp), defaults("fsdd")
    case["finetune"]["recipe"]["epochs"] = 2
    same = {name: case[name] for name in ("attack", "finetune", "ingest", "profile", "registered_name")}
    assert sent == same | {"min_utility": 0.5, "source": "s3://bucket/speech"}


@pytest.mark.parametrize("case", sorted(file.stem for file in (ROOT / "cases").glob("*.yaml")))
def test_every_case_whose_data_a_container_can_make(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    source = defaults(case)["source"]
    if source in ("digits", "generated"):
        assert submit(kfp, "--case", case) == 0
        assert parameters(kfp).get("source", "digits") == source
    else:
        assert submit(kfp, "--case", case) == 2
        assert refused(capsys).endswith(f"found {source!r}")
        assert submit(kfp, "--case", case, "source=s3://bucket/data") == 0


def test_a_case_on_data_of_one_s_own(kfp: KfpStandIn) -> None:
    given = ("source=s3://bucket/faces", "--set", "ingest.generator=null")
    assert submit(kfp, "--case", "faces", *given) == 0
    assert "generator" not in parameters(kfp)["ingest"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tolerence=1"], "has no parameter tolerence; it has attack, data_md5"),
        (["min_utility=high"], "parameters.min_utility: expected a finite number, found 'high'"),
        (["prune=3", "min_utility="], "parameters.min_utility: expected a finite number, found None"),
        (["min_utility=7"], "promote.min_utility: expected a value in [-1, 1], found 7.0"),
        (["--set", "attack.poison.rat=1"], "attack.poison.rat: unknown key"),
        (["--set", "attack.poison.rate=2"], "attack.poison.rate: expected a value in (0, 1], found 2"),
        (["--set", "promote.min_utility=0"], "min_utility is a parameter of its own, say min_utility=…"),
        (["--set", "mint.rate=0"], "--set mint.rate=0: expected STAGE.KEY=VALUE with a stage of ingest, "),
        (["--set", "attack=0"], "--set attack=0: expected STAGE.KEY=VALUE"),
        (["plain"], "expected key=value, found 'plain'"),
        (
            ["https://me:planted@git.example/data"],
            "expected key=value, found 'https://git.example/data'",
        ),
        (
            ["--set", "ingest.source=https://me:planted@git.example/data"],
            "--set ingest.source=https://git.example/data: ingest.source is a parameter of its own",
        ),
        (["--case", "mnist"], "no case 'mnist'; there are digits, faces"),
        (["--package", str(SWEEP), "--case", "fsdd"], "fine_pruning_sweep.yaml takes no sections of a case"),
        (
            ["--package", str(SWEEP), "--set", "attack.seed=3"],
            "--set attack.seed=3: expected STAGE.KEY=VALUE with a stage of none here",
        ),
        (["--package", str(SWEEP), "runs=[]"], "runs: expected at least one, found none"),
        (["--package", "nowhere.yaml"], "nowhere.yaml: cannot read the package: No such file or directory"),
        (["--package", str(ROOT / "params.yaml")], "expected a compiled pipeline, found something else"),
        (
            ["source=dvc+https://me:planted@git.example/data@main:speech"],
            "source: expected an address without credentials, found one with some",
        ),
        (
            ["--set", "ingest.licence=http://me:planted@licences.example"],
            "ingest: expected an address without credentials, found one with some",
        ),
        (
            ["--set", "promote.tracking_uri=http://me:planted@mlflow.example"],
            "--set promote.tracking_uri: has no effect; set mlflow.address in pipeline/settings.yaml",
        ),
        (["--profile", "tpu"], "no profile 'tpu'; there are "),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert_refused(kfp, capsys, arguments, message)


def test_what_a_package_holds_is_checked_too(
    kfp: KfpStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "own.yaml"
    for path in (FOLDER / "fine_pruning.yaml", SWEEP):
        package.write_text(path.read_text().replace("tolerance:", "tolerrance:"))
        assert submit(kfp, "--package", str(package)) == 2
        assert "tolerrance: unknown key" in refused(capsys)
    assert kfp.requests == []


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"source": "digits"}, "it has no attack, has no data_md5, has no evaluate"),
        (sweep_run(promote={}), "runs[0]: expected source, revision, "),
        (sweep_run(promote={}), "; it knows no promote"),
        (sweep_run(attack={"bogus": 1}), "runs[0]: attack.bogus: unknown key"),
        (sweep_run(finetune={"bogus": 1}), "runs[0]: finetune.bogus: unknown key"),
        (sweep_run(source="data/speech"), "expected what a container can reach"),
        (sweep_run(source="s3://me:planted@bucket/x"), "runs: expected an address without credentials"),
    ],
)
def test_the_runs_of_a_sweep_are_checked(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str], run: dict[str, Any], message: str
) -> None:
    assert_refused(kfp, capsys, ["--package", str(SWEEP), f"runs={json.dumps([run])}"], message)


def test_a_run_of_a_sweep_is_sent_without_nulls(kfp: KfpStandIn) -> None:
    """Which kfp's SDK cannot put into a dict parameter."""
    run = sweep_run()
    run["attack"]["pruning_aware"]["final_epochs"] = None
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps([run])}") == 0
    assert parameters(kfp) == {"runs": [sweep_run()]}


def test_runs_of_several_cases_and_attacks_with_the_same_seed_are_taken(kfp: KfpStandIn) -> None:
    runs = [sweep_run(), sweep_run(), sweep_run()]
    runs[1]["attack"]["name"], runs[2]["ingest"]["name"] = "pruning_aware", "others"
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs)}") == 0
    assert parameters(kfp) == {"runs": runs}


def test_a_parameter_without_a_default_must_be_given(
    kfp: KfpStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "own.yaml"
    pipeline, *rest = yaml.safe_load_all((FOLDER / "fine_pruning.yaml").read_text())
    for name in ("source", "min_utility"):
        del pipeline["root"]["inputDefinitions"]["parameters"][name]["defaultValue"]
    package.write_text(yaml.safe_dump_all([pipeline, *rest]))
    message = f"{package}: expected min_utility=…"
    assert_refused(kfp, capsys, ["--package", str(package), "source=digits"], message)


def test_runs_that_the_table_of_a_sweep_could_not_tell_apart_are_refused(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned_less = sweep_run()
    poisoned_less["attack"]["poison"]["rate"] = 0.01
    runs = json.dumps([sweep_run(), sweep_run(seed=4), poisoned_less])
    message = (
        "runs[2]: expected another ingest.name, attack.name or attack.seed, "
        "found digits, baseline, seed 3, as runs[0]"
    )
    assert_refused(kfp, capsys, ["--package", str(SWEEP), f"runs={runs}"], message)
