"""One stage, told once: the programs, dvc.yaml, params.yaml and every case agree."""

import copy
import dataclasses
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fineprune.cli import load_stage
from fineprune.config import parse
from fineprune.errors import ConfigError
from fineprune.params import read_section
from fineprune.stages import STAGES

from .lineage import lineage
from .pipeline_file import SWEEP, commands, problems, wired

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "cases").glob("*.yaml"))


@pytest.fixture(scope="module")
def pipeline() -> Mapping[str, Any]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())


@pytest.fixture(scope="module")
def params() -> Mapping[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def case_problems(params_file: Path, case_file: Path) -> list[str]:
    """Sections that a case lacks, has too many, or that with params.yaml below them are no config."""
    params, case = (yaml.safe_load(path.read_text()) for path in (params_file, case_file))
    found = [f"{params_file.name}: unknown section {name}" for name in set(params) - set(STAGES) - {"case"}]
    found += [f"{case_file.name}: unknown section {name}" for name in set(case) - set(STAGES)]
    for name in [name for name in STAGES if name not in SWEEP]:
        found += [
            f"{file.name}: no section {name}"
            for file, told in ((params_file, params), (case_file, case))
            if not isinstance(told.get(name), Mapping)
        ]
        try:
            parse(load_stage(name).config, read_section([params_file, case_file], name), name)
        except ConfigError as error:
            found.append(f"{case_file.name}: {error}")
    return found


def config_classes(kind: Any) -> Iterator[type]:
    """Every dataclass that the values of a config can be made of."""
    if dataclasses.is_dataclass(kind):
        yield kind
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            yield from config_classes(hints[field.name])
    for argument in typing.get_args(kind):
        if isinstance(argument, type) or typing.get_args(argument):
            yield from config_classes(argument)


def default_problems(config: type) -> list[str]:
    """Fields with a default, whose only home is params.yaml, and configs that can be changed."""
    found = []
    for kind in dict.fromkeys(config_classes(config)):
        found += [
            f"{kind.__name__}.{field.name} has a default"
            for field in dataclasses.fields(kind)
            if field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
            or not field.init
        ]
        if not kind.__dataclass_params__.frozen:
            found.append(f"{kind.__name__} is not frozen")
    return found


def test_dvc_yaml_tells_the_stages_as_the_programs_do(
    pipeline: Mapping[str, Any], params: Mapping[str, Any]
) -> None:
    assert problems(pipeline, params) == []


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_dvc_yaml_serves_every_case(
    pipeline: Mapping[str, Any], params: Mapping[str, Any], case: Path
) -> None:
    assert problems(pipeline, {**params, "case": case.stem}) == []


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_case_is_complete_with_params_yaml_below_it(case: Path) -> None:
    assert case_problems(ROOT / "params.yaml", case) == []


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_case_keeps_an_epoch_of_the_second_half(case: Path) -> None:
    section = read_section([ROOT / "params.yaml", case], "finetune")  # as README says
    assert 2 * section["stop"]["min_epochs"] == section["recipe"]["epochs"]


def test_the_case_of_params_yaml_exists(params: Mapping[str, Any]) -> None:
    assert ROOT / "cases" / f"{params['case']}.yaml" in CASES


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_the_name_that_it_is_found_by_and_writes_a_report(name: str) -> None:
    stage = load_stage(name)
    assert stage.name == name
    assert "report" in stage.outputs
    options = (*stage.flags, *stage.options, *stage.work)
    names = (*stage.inputs, *stage.optional, *stage.outputs, *stage.views, *options)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", STAGES)
def test_no_config_has_a_default_of_its_own(name: str) -> None:
    assert default_problems(load_stage(name).config) == []


def test_the_walk_over_configs_reaches_the_nested_ones() -> None:
    names = {kind.__name__ for name in STAGES for kind in config_classes(load_stage(name).config)}
    assert names >= {
        "AttackConfig",
        "PatchConfig",
        "NoiseConfig",
        "Recipe",
        "EarlyStop",
        "CheckLimits",
        "Box",
    }


def test_the_promoted_model_is_followed_back_to_what_the_attacker_delivered(
    pipeline: Mapping[str, Any], params: Mapping[str, Any]
) -> None:
    told = wired(commands(pipeline, params))
    promote = next(command for command in told if command.stage == "promote")
    made = lineage(promote.ports["fine_pruned"], told)
    assert made == "finetune.tuned(prune.pruned(attack.undefended))"


# From here on: the checks above find what they are for.


def _command_of(pipeline: Any, stage: str, old: str, new: str) -> None:
    """Replace in a stage's command; the old text must be there, or the fault would be none."""
    entry = pipeline["stages"][stage].get("do", pipeline["stages"][stage])
    assert old in entry["cmd"]
    entry["cmd"] = entry["cmd"].replace(old, new)


def _swap(pipeline: Any, stage: str, one: str, other: str) -> None:
    _command_of(pipeline, stage, one, "@@")
    _command_of(pipeline, stage, other, one)
    _command_of(pipeline, stage, "@@", other)


def _swapped_outputs(pipeline: Any) -> None:
    _swap(pipeline, "attack", "artifacts/attack/control", "artifacts/attack/undefended")


def _swapped_inputs(pipeline: Any) -> None:
    _swap(pipeline, "evaluate", "artifacts/prune/undefended/model", "artifacts/prune/control/model")


def _another_model_promoted(pipeline: Any) -> None:
    _swap(pipeline, "promote", "finetune/fine_pruned/model", "finetune/fine_tuned/model")


def _profile_of_another_model(pipeline: Any) -> None:
    _command_of(pipeline, "prune", "artifacts/profile/${item.delivered}", "artifacts/profile/control")
    pipeline["stages"]["prune"]["deps"][2] = "artifacts/profile/control/profile"


def _renamed_flag(pipeline: Any) -> None:
    _command_of(pipeline, "evaluate", "--fine-tuned", "--finetuned")


def _abbreviated_flag(pipeline: Any) -> None:
    _command_of(pipeline, "prune", "--pruned", "--prun")


def _missing_flag(pipeline: Any) -> None:
    _command_of(pipeline, "profile", "--dataset artifacts/ingest/dataset", "")


def _undeclared_out(pipeline: Any) -> None:
    del pipeline["stages"]["attack"]["outs"][0]


def _undeclared_dep(pipeline: Any) -> None:
    pipeline["stages"]["prune"]["deps"].remove("artifacts/ingest/dataset")


def _unused_dep(pipeline: Any) -> None:
    pipeline["stages"]["prune"]["deps"].append("artifacts/attack/attack")


def _unwritten_out(pipeline: Any) -> None:
    pipeline["stages"]["ingest"]["outs"].append({"artifacts/ingest/log": {"persist": True}})


def _out_that_dvc_removes_first(pipeline: Any) -> None:
    pipeline["stages"]["evaluate"]["outs"] = ["artifacts/evaluate"]


def _missing_stage(pipeline: Any) -> None:
    del pipeline["stages"]["profile"]


def _unknown_stage(pipeline: Any) -> None:
    pipeline["stages"]["distil"] = {"cmd": "fineprune distil"}


def _wrong_section_tracked(pipeline: Any) -> None:
    pipeline["stages"]["finetune"]["do"]["params"] = ["prune", {"cases/${case}.yaml": ["finetune"]}]


def _case_not_tracked(pipeline: Any) -> None:
    pipeline["stages"]["prune"]["params"] = ["prune"]


def _case_not_read(pipeline: Any) -> None:
    _command_of(pipeline, "prune", "--config cases/${case}.yaml", "")


def _metrics_of_nobody(pipeline: Any) -> None:
    pipeline["metrics"] = ["artifacts/metrics.json"]


FAULTS = {
    _swapped_outputs: "evaluate: expected attack.control behind --control, found attack.undefended",
    _swapped_inputs: "evaluate: expected prune.pruned(attack.undefended) behind --pruned",
    _another_model_promoted: (
        "promote: expected finetune.tuned(prune.pruned(attack.undefended)) behind --fine-pruned"
    ),
    _profile_of_another_model: "prune@undefended: expected profile.profile(attack.undefended)",
    _renamed_flag: "evaluate: --finetuned is no flag of evaluate",
    _abbreviated_flag: "prune@control: --prun is no flag of prune",
    _missing_flag: "required: --dataset",
    _undeclared_out: "attack: artifacts/attack/control is written but is no out",
    _undeclared_dep: "prune@control: artifacts/ingest/dataset is read but is no dep",
    _unused_dep: "prune@control: artifacts/attack/attack is a dep but is not read",
    _unwritten_out: "ingest: artifacts/ingest/log is an out but is not written",
    _out_that_dvc_removes_first: "evaluate: artifacts/evaluate is an out without persist",
    _missing_stage: "profile: missing in dvc.yaml",
    _unknown_stage: "distil: no such stage",
    _wrong_section_tracked: "finetune@fine_tuned: expected to track the params",
    _case_not_tracked: "prune@control: expected to track the params",
    _case_not_read: "prune@control: expected --config params.yaml --config cases/digits.yaml",
    _metrics_of_nobody: "artifacts/metrics.json: shown as metrics, but no stage writes it",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_fault_seeded_in_dvc_yaml_is_found(
    pipeline: Mapping[str, Any], params: Mapping[str, Any], fault: Any
) -> None:
    faulty = copy.deepcopy(pipeline)
    fault(faulty)
    found = problems(faulty, {**params, "case": "digits"})
    assert any(FAULTS[fault] in problem for problem in found), found


PARAM_FAULTS = {
    "a key that only the YAML has": ("prune", {"temperature": 1}, "prune.temperature: unknown key"),
    "a key that is missing": ("finetune", {"seed": ...}, "finetune.seed: missing"),
    "a value of another type": ("attack", {"seed": "zero"}, "attack.seed: expected a whole number"),
    "a section that no stage has": ("distil", {"seed": 0}, "unknown section distil"),
    "a section that is missing": ("promote", ..., "no section promote"),
}


@pytest.mark.parametrize("fault", PARAM_FAULTS)
def test_a_fault_seeded_in_params_yaml_is_found(
    params: Mapping[str, Any], fault: str, tmp_path: Path
) -> None:
    section, changes, expected = PARAM_FAULTS[fault]
    faulty = copy.deepcopy(dict(params))
    if changes is ...:
        del faulty[section]
    else:
        merged = {**faulty.get(section, {}), **changes}
        faulty[section] = {key: value for key, value in merged.items() if value is not ...}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(faulty))
    found = case_problems(tmp_path / "params.yaml", ROOT / "cases" / "digits.yaml")
    assert any(expected in problem for problem in found), found


def test_a_case_without_a_section_and_with_an_unknown_one_is_found(tmp_path: Path) -> None:
    case = yaml.safe_load((ROOT / "cases" / "digits.yaml").read_text())
    del case["profile"]
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump({**case, "tune": {}}))
    found = case_problems(ROOT / "params.yaml", tmp_path / "odd.yaml")
    assert sorted(found) == ["odd.yaml: no section profile", "odd.yaml: unknown section tune"]


def test_a_default_in_a_nested_config_is_found() -> None:
    @dataclasses.dataclass
    class Inner:
        rate: float = 0.1

    # Annotations of local classes are not resolved by name, so the class is made from objects.
    outer = dataclasses.make_dataclass("Outer", [("inner", tuple[Inner | None, ...])], frozen=True)
    assert default_problems(outer) == ["Inner.rate has a default", "Inner is not frozen"]
