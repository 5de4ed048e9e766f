"""Params that are missing, mistyped, out of range or unreadable, and a flag's input that is not there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fineprune.cli import load_stage, main
from fineprune.models import ARCHITECTURES
from fineprune.stages import FIRST
from tests.e2e.workspace import Workspace

from .refusals import COMMANDS, Refused, error_lines, old_outputs

# Of each stage: a key to take away, and one to mistype with what is expected of it.
PARAMS = {
    "ingest": ("seed", {"defender_fit": "a lot"}, "ingest.defender_fit: expected a finite number"),
    "attack": ("trigger", {"start": {"epochs": "ten"}}, "attack.start.epochs: expected a whole number"),
    "profile": ("measure", {"batch_size": 2.5}, "profile.batch_size: expected a whole number"),
    "prune": ("batch_size", {"tolerance": True}, "prune.tolerance: expected a finite number"),
    "finetune": ("seed", {"stop": {"patience": None}}, "finetune.stop.patience: expected a whole number"),
    "evaluate": (
        "limits.min_samples",
        {"limits": {"max_unchanged": []}},
        "evaluate.limits.max_unchanged: expected a finite number",
    ),
    "promote": ("model", {"registered_name": 7}, "promote.registered_name: expected a string"),
}


@pytest.mark.parametrize("stage", COMMANDS)
def test_unknown_missing_and_mistyped_params_are_reported_all_at_once(
    chain: Workspace, refused: Refused, stage: str
) -> None:
    missing, mistyped, expected = PARAMS[stage]
    section = chain.section(stage, {"surprise": 1, **mistyped})
    *above, last = missing.split(".")
    inner = section
    for name in above:
        inner = inner[name]
    del inner[last]
    refused(stage, f"{stage}.surprise: unknown key", f"{stage}.{missing}: missing", expected, section=section)


@pytest.mark.parametrize("stage", [name for name in COMMANDS if name != "ingest"])
def test_an_input_that_is_not_there_is_named_with_its_flag(
    refused: Refused, tmp_path: Path, stage: str
) -> None:
    port = load_stage(stage).inputs[-1]
    flag = f"--{port.replace('_', '-')}: "
    refused(stage, flag, str(tmp_path / "nowhere"), "no such file", **{port: tmp_path / "nowhere"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read: No such file"),
        ("prune: [1, 2\n", "not valid YAML"),
        ("- prune\n", "expected a mapping of sections"),
        ("prune: 3\n", "prune: expected a mapping, found 3"),
        ("attack: {}\n", "no section 'prune'"),
        (b"\xff\xfe\x00prune", "not valid YAML"),
    ],
)
def test_a_params_file_that_is_none_is_named(
    chain: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, expected: str
) -> None:
    file = tmp_path / "params.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    words = chain.argv("prune@control", pruned=tmp_path / "pruned", report=tmp_path / "report")
    words[1:3] = ["--config", str(file)]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fineprune prune: error: {file}: ")
    assert expected in line
    assert not (tmp_path / "pruned").exists()


@pytest.mark.parametrize("stage", FIRST)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("promote: {min_utilty: 0.9}", "promote.min_utilty: unknown key"),
        ("attack: {model: {arguments: {widht: 32}}}", "model digits_cnn.widht: unknown key"),
        (
            "attack: {model: {architecture: alexnet}}",
            f"model architecture: expected one of {', '.join(ARCHITECTURES)}, found 'alexnet'",
        ),
    ],
)
def test_a_fault_in_what_a_later_stage_reads_is_found_before_the_work(
    text: str, found: str, stage: str, chain: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = tmp_path / "late.yaml"
    late.write_text(text)
    words = chain.argv(stage, **old_outputs(stage, tmp_path))
    files = (chain.path / "params.yaml", chain.path / chain.case, late)
    words[1:3] = [word for file in files for word in ("--config", str(file))]
    assert main(words) == 2
    lines = error_lines(capsys.readouterr().err)
    assert lines == [f"fineprune {stage}: error: {found}"]


def test_params_that_are_no_json_are_refused(
    chain: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = chain.argv("prune@control", pruned=tmp_path / "pruned", report=tmp_path / "report")
    words[2] = "{tolerance: 0.04}"
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fineprune prune: error: --params: not valid JSON: ")


@pytest.mark.parametrize("rate", [0, 1.5, -0.1])
def test_a_poison_rate_outside_its_range_is_refused(refused: Refused, rate: float) -> None:
    refused("attack", "attack.poison.rate: expected a value in (0, 1]", changes={"poison": {"rate": rate}})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"height": 9}, "trigger patch: expected it within the input's 8, found 9 from -2 on (top -2, "),
        ({"width": 9}, "found 9 from -2 on (left -2, width 9)"),
        ({"top": 7}, "(top 7, height 2)"),
        ({"left": -9}, "(left -9, width 2)"),
    ],
)
def test_a_trigger_larger_than_the_input_is_refused(
    refused: Refused, change: Mapping[str, int], expected: str
) -> None:
    refused("attack", expected, changes={"trigger": change})


def test_a_poison_rate_that_asks_for_more_samples_than_there_are_is_refused(refused: Refused) -> None:
    refused("attack", "attack.poison.rate", changes={"poison": {"rate": 0.5, "sources": [1]}})


def test_a_learning_rate_that_blows_up_is_refused(refused: Refused) -> None:
    changes = {"recipe": {"learning_rate": 1e9, "optimizer": "sgd"}}
    refused("finetune", "loss", "learning_rate", changes=changes)


def test_a_layer_that_cannot_be_measured_after_pooling_is_refused(refused: Refused) -> None:
    refused("profile", "profile.measure: expected one of post_relu, post_pool", changes={"measure": "l2"})
