import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import pytest

from fineprune.config import Count, Fraction, parse
from fineprune.errors import ConfigError
from fineprune.params import override, read_section


@pytest.fixture
def params(tmp_path):
    """Write params files and read a section of them."""

    def read(*texts, section="stage"):
        paths = []
        for number, text in enumerate(texts):
            paths.append(tmp_path / f"{number}.yaml")
            paths[-1].write_text(text)
        return read_section(paths, section)

    return read


def test_a_later_file_overrides_key_by_key(params):
    base = "stage: {a: 1, inner: {x: 1, y: 2}, list: [1, 2]}\nother: {a: 5}"
    over = "stage: {b: 3, inner: {y: 4}, list: [9]}"
    assert params(base, over) == {"a": 1, "b": 3, "inner": {"x": 1, "y": 4}, "list": [9]}


def test_another_kind_replaces_the_whole_mapping(params):
    base = "stage: {shape: {kind: circle, radius: 1}}"
    assert params(base, "stage: {shape: {kind: square, side: 2}}") == {"shape": {"kind": "square", "side": 2}}
    assert params(base, "stage: {shape: {kind: circle}}") == {"shape": {"kind": "circle", "radius": 1}}
    assert params(base, "stage: {shape: {radius: 3}}") == {"shape": {"kind": "circle", "radius": 3}}


def test_a_value_may_replace_a_mapping_and_the_other_way_round(params):
    assert params("stage: {a: {x: 1}}", "stage: {a: null}") == {"a": None}
    assert params("stage: {a: null}", "stage: {a: {x: 1}}") == {"a": {"x": 1}}


def test_a_section_may_be_in_one_file_only_and_empty(params):
    assert params("other: {a: 1}", "stage: {}") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: {a: 1", "not valid YAML"),
        ("stage: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("[" * 3000, "not valid YAML: "),
        ("stage: {a: 1, b: 2, a: 3}", "not valid YAML: expected a once, found it 2 times in"),
        ("stage: {}\nother: {}\nstage: {a: 1}", "expected stage once, found it 2 times"),
        ("stage: {measure: 2020-13-45}", "not valid YAML: month must be in 1..12"),
        ("- stage", "expected a mapping of sections"),
        ("", "expected a mapping of sections, found None"),
        ("stage: 3", "stage: expected a mapping, found 3"),
        ("other: {}", "no section 'stage'"),
        ("stage:", "no section 'stage'"),
    ],
)
def test_an_unusable_params_file_is_refused_in_one_line(params, text, message):
    with pytest.raises(ConfigError) as error:
        params(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mapping_may_override_what_it_merges(params):
    assert params("base: &base {a: 1, b: 2}\nstage: {<<: *base, a: 3}") == {"a": 3, "b": 2}


def test_what_aliases_make_of_a_line_is_not_written_out(params):
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    config = dataclasses.make_dataclass("Config", [("steps", Count)], frozen=True)
    with pytest.raises(ConfigError, match=r"steps: expected a whole number, found \[\[\["):
        parse(config, {"steps": params("\n".join([*lines, "stage: {steps: *a8}"]))["steps"]}, "stage")


def test_a_missing_or_binary_params_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_section([tmp_path / "none.yaml"], "stage")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00stage")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_section([tmp_path / "binary.yaml"], "stage")


@dataclass(frozen=True)
class Given:
    text: str
    note: str | None
    rate: Fraction
    flag: bool
    free: dict[str, Any]


GIVEN = {"text": "a", "note": "b", "rate": 0.5, "flag": False, "free": {"width": 1}}


@pytest.mark.parametrize(
    ("setting", "name", "expected"),
    [
        ("text=0012345", "text", "0012345"),  # a revision, not the octal number 5349
        ("text=a=b", "text", "a=b"),
        ("note=", "note", None),
        ("note=no", "note", "no"),
        ("rate=1", "rate", 1.0),
        ("rate=1e-2", "rate", 0.01),
        ("flag=true", "flag", True),
        ("free.width=8", "free", {"width": 8}),
        ("free={depth: 2}", "free", {"depth": 2}),
        ("free.rate=1e-2", "free", {"width": 1, "rate": 0.01}),
        ("free.id=9007199254740993", "free", {"width": 1, "id": 2**53 + 1}),
        ("free.name=2020-13-45", "free", {"width": 1, "name": "2020-13-45"}),  # no date
        ("free.deep.list=[1, 2]", "free", {"width": 1, "deep": {"list": [1, 2]}}),
    ],
)
def test_a_setting_is_read_as_its_field_asks(setting: str, name: str, expected: Any) -> None:
    assert getattr(parse(Given, override(GIVEN, [setting]), "given"), name) == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rate", "--set: expected KEY=VALUE, found 'rate'"),
        ("=1", "--set: expected KEY=VALUE, found '=1'"),
        ("free..x=1", "--set: expected KEY=VALUE"),
        ("rate=[", "given.rate: expected a finite number, found '['"),
        ("text=", "given.text: expected a string, found None"),
        ("speed=1", "given.speed: unknown key"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(Given, override(GIVEN, [setting]), "given")


def test_a_setting_leaves_the_section_as_it_was() -> None:
    override(GIVEN, ["free.width=8", "rate=1"])
    assert GIVEN["free"] == {"width": 1}
