import dataclasses
import sys
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import pytest

from fineprune.config import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveShare,
    Range,
    Seed,
    Share,
    parse,
    read_card,
    to_plain,
    to_show,
)
from fineprune.errors import ConfigError, ModelError
from fineprune.params import override


@dataclass(frozen=True)
class Circle:
    kind: Literal["circle"]
    radius: Annotated[float, Range(gt=0)]


@dataclass(frozen=True)
class Square:
    kind: Literal["square"]
    side: Count


@dataclass(frozen=True)
class Everything:
    flag: bool
    count: Count
    share: Fraction
    name: str
    mode: Literal["fast", "slow"]
    limit: float | None
    sizes: tuple[Count, ...]
    extra: dict[str, Any]
    inner: Square
    shape: Circle | Square
    other: Circle | Square | None


GOOD = {
    "flag": True,
    "count": 3,
    "share": 0.5,
    "name": "x",
    "mode": "fast",
    "limit": None,
    "sizes": [1, 2],
    "extra": {"any": [1, {"thing": None}]},
    "inner": {"kind": "square", "side": 2},
    "shape": {"kind": "circle", "radius": 1.5},
    "other": None,
}


def parsed(**changes):
    return parse(Everything, GOOD | changes, "stage")


def test_every_supported_type_is_parsed():
    assert parsed() == Everything(
        flag=True,
        count=3,
        share=0.5,
        name="x",
        mode="fast",
        limit=None,
        sizes=(1, 2),
        extra={"any": [1, {"thing": None}]},
        inner=Square("square", 2),
        shape=Circle("circle", 1.5),
        other=None,
    )
    assert parsed(limit=2).limit == 2.0
    assert parsed(other=GOOD["inner"]).other == Square("square", 2)


def test_what_was_parsed_turns_back_into_plain_values():
    assert to_plain(parsed()) == GOOD
    assert parse(Everything, to_plain(parsed()), "again") == parsed()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flag": 1}, "stage.flag: expected true or false, found 1"),
        ({"flag": "true"}, "stage.flag: expected true or false, found 'true'"),
        ({"count": True}, "stage.count: expected a whole number, found True"),
        ({"count": 3.5}, "stage.count: expected a whole number, found 3.5"),
        ({"count": "3"}, "stage.count: expected a whole number, found '3'"),
        ({"count": float("nan")}, "stage.count: expected a whole number, found nan"),
        ({"count": float("inf")}, "stage.count: expected a whole number, found inf"),
        ({"count": None}, "stage.count: expected a whole number, found None"),
        ({"count": 0}, "stage.count: expected a value in [1, 1e+09], found 0"),
        ({"share": False}, "stage.share: expected a finite number, found False"),
        ({"share": float("nan")}, "stage.share: expected a finite number, found nan"),
        ({"share": float("-inf")}, "stage.share: expected a finite number, found -inf"),
        ({"share": 1.01}, "stage.share: expected a value in [0, 1], found 1.01"),
        ({"name": 3}, "stage.name: expected a string, found 3"),
        ({"mode": "medium"}, "stage.mode: expected one of fast, slow, found 'medium'"),
        ({"mode": True}, "stage.mode: expected one of fast, slow, found True"),
        ({"mode": ["fast"]}, "stage.mode: expected one of fast, slow, found ['fast']"),
        ({"limit": "none"}, "stage.limit: expected a finite number, found 'none'"),
        ({"sizes": 3}, "stage.sizes: expected a list, found 3"),
        ({"sizes": "12"}, "stage.sizes: expected a list, found '12'"),
        ({"sizes": [1, 0, "a"]}, "stage.sizes[1]: expected a value in [1, 1e+09], found 0"),
        ({"sizes": [1, 0, "a"]}, "stage.sizes[2]: expected a whole number, found 'a'"),
        ({"extra": []}, "stage.extra: expected a mapping, found []"),
        ({"extra": {"a": [1, float("nan")]}}, "stage.extra.a[1]: expected a finite number, "),
        ({"extra": {"a": {"b": date(2020, 1, 2)}}}, "stage.extra.a.b: expected a finite number, "),
        ({"extra": {"a": b"raw"}}, "stage.extra.a: expected a finite number, "),
        ({"inner": 7}, "stage.inner: expected a mapping, found 7"),
        (
            {"inner": {"kind": "circle", "side": 1}},
            "inner.kind: expected one of square, found 'circle'",
        ),
        ({"shape": {"kind": "star"}}, "stage.shape.kind: expected one of circle, square, found 'star'"),
        ({"shape": {"radius": 1}}, "stage.shape.kind: expected one of circle, square, found None"),
        (
            {"shape": {"kind": ["circle"]}},
            "shape.kind: expected one of circle, square, found ['circle']",
        ),
        ({"shape": "circle"}, "stage.shape.kind: expected one of circle, square, found None"),
        ({"shape": None}, "stage.shape.kind: expected one of circle, square, found None"),
        (
            {"shape": {"kind": "circle", "side": 1}},
            "stage.shape.side: unknown key; stage.shape.radius: mis",
        ),
        (
            {"shape": {"kind": "circle", "radius": 0}},
            "stage.shape.radius: expected a value in (0, inf), f",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(changes, message):
    with pytest.raises(ConfigError) as error:
        parsed(**changes)
    assert message in str(error.value)


def test_all_faults_are_reported_at_once_in_one_line():
    values = GOOD | {"count": "many", "share": 2, "unheard_of": 1, "inner": {"kind": "square", "side": -1}}
    del values["name"]
    with pytest.raises(ConfigError) as error:
        parse(Everything, values, "stage")
    assert str(error.value) == (
        "stage.unheard_of: unknown key; "
        "stage.count: expected a whole number, found 'many'; "
        "stage.share: expected a value in [0, 1], found 2; "
        "stage.name: missing; "
        "stage.inner.side: expected a value in [1, 1e+09], found -1"
    )


def test_a_long_value_is_cut_in_messages():
    with pytest.raises(ConfigError) as error:
        parsed(count="a" * 10_000)
    assert len(str(error.value)) < 130


def test_a_section_that_is_not_a_mapping_is_refused():
    with pytest.raises(ConfigError, match=r"stage: expected a mapping, found \[1\]"):
        parse(Everything, [1], "stage")


def test_a_whole_float_is_an_int():
    assert parsed(count=3.0).count == 3
    assert isinstance(parsed(count=3.0).count, int)


def test_whole_floats_in_a_dict_are_ints_at_every_depth():
    given = {"width": 8.0, "inner": {"bins": 64.0, "rate": 0.5}, "list": [1.0, [2.0, True, None, "3.0"]]}
    extra = parsed(extra=given).extra
    assert repr(extra) == repr(
        {"width": 8, "inner": {"bins": 64, "rate": 0.5}, "list": [1, [2, True, None, "3.0"]]}
    )
    assert given["width"] == 8.0
    assert isinstance(given["width"], float)
    assert repr(parsed(extra={"big": 1e300}).extra) == repr({"big": 1e300})


def test_a_whole_float_becomes_the_int_that_a_literal_lists():
    config = dataclasses.make_dataclass("Config", [("channels", Literal[1, 3])], frozen=True)
    found = parse(config, {"channels": 3.0}, "stage").channels
    assert found == 3
    assert isinstance(found, int)


def test_a_true_is_no_number_that_a_literal_lists():
    config = dataclasses.make_dataclass("Config", [("channels", Literal[1, 3])], frozen=True)
    with pytest.raises(ConfigError, match="channels: expected one of 1, 3, found True"):
        parse(config, {"channels": True}, "stage")


def test_a_key_that_may_be_null_may_be_left_out():
    values = {key: value for key, value in GOOD.items() if key not in ("limit", "other")}
    assert parse(Everything, values, "stage") == parsed()


def test_an_int_is_a_float():
    assert isinstance(parsed(share=1).share, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("-1e+20", -1e20), ("2E3", 2000.0), ("1.0e5", 1e5), ("-1.e20", -1e20), (".5e3", 500.0)],
)
def test_a_number_that_yaml_takes_for_a_string_is_a_number(text: str, value: float) -> None:
    assert parsed(limit=text).limit == value


@pytest.mark.parametrize("text", ["1e999", "e5", "1e", "1e5x", "1.5", "nan"])
def test_other_strings_are_no_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match=r"\.limit: expected a finite number"):
        parsed(limit=text)


def test_integers_beyond_floats_neither_crash_nor_lose_digits():
    whole = dataclasses.make_dataclass("Config", [("whole", int)], frozen=True)
    assert parse(whole, {"whole": 10**400}, "stage").whole == 10**400
    assert parse(whole, {"whole": 2**53 + 1}, "stage").whole == 2**53 + 1
    with pytest.raises(ConfigError, match="expected a finite number"):
        parsed(limit=10**400)
    assert parsed(limit=sys.float_info.max).limit == sys.float_info.max


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "text"),
    [
        (Range(gt=0, le=1), (0.1, 1), (0, 1.1), "(0, 1]"),
        (Range(ge=0, lt=1), (0, 0.9), (-0.1, 1), "[0, 1)"),
        (Range(gt=2), (2.1, 1e9), (2,), "(2, inf)"),
        (Range(le=2), (2, -1e9), (2.1,), "(-inf, 2]"),
    ],
)
def test_a_range_includes_and_excludes_its_bounds(bounds, inside, outside, text):
    assert all(value in bounds for value in inside)
    assert not any(value in bounds for value in outside)
    assert str(bounds) == text


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        (Fraction, (0, 1), (-0.1, 1.1)),
        (Share, (0.1, 0.9), (0, 1)),
        (PositiveShare, (0.1, 1), (0, 1.1)),
        (Positive, (0.1, 1e12), (0, -1)),
        (NonNegative, (0, 1e12), (-0.1,)),
    ],
)
def test_a_kind_of_number_has_its_bounds(kind, inside, outside):
    config = dataclasses.make_dataclass("Config", [("value", kind)], frozen=True)
    for value in inside:
        assert parse(config, {"value": value}, "stage").value == value
    for value in outside:
        with pytest.raises(ConfigError, match=r"stage\.value: expected a value in"):
            parse(config, {"value": value}, "stage")


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Count, 10**9 + 1), (Count, 1e30), (Positive, 1e13), (Positive, 1e308), (NonNegative, 1e308)],
)
def test_what_would_overflow_further_on_is_refused(kind: Any, value: float) -> None:
    config = dataclasses.make_dataclass("Config", [("size", kind)], frozen=True)
    with pytest.raises(ConfigError, match=r"^stage\.size: expected a value in .*1e\+(09|12)\], found 1"):
        parse(config, {"size": value}, "stage")


@pytest.mark.parametrize("seed", [-1, 2**53 + 1])
def test_a_seed_that_kubeflow_would_round_is_refused(seed):
    config = dataclasses.make_dataclass("Config", [("seed", Seed)], frozen=True)
    with pytest.raises(ConfigError, match="seed: expected a value in"):
        parse(config, {"seed": seed}, "stage")


def test_values_that_hold_themselves_are_refused():
    with pytest.raises(
        ConfigError, match="stage: expected plain values, found some that are nested too deeply"
    ):
        parse(
            dataclasses.make_dataclass("Config", [("arguments", dict[str, Any])], frozen=True),
            override({}, ["arguments={width: &a [*a]}"]),
            "stage",
        )


def test_what_is_shown_has_no_credentials() -> None:
    @dataclasses.dataclass(frozen=True)
    class Config:
        source: str
        runs: tuple[dict[str, Any], ...]

    hidden = "dvc+https://me:planted@git.example/x@v1:d"
    config = Config(hidden, ({"source": hidden, "rate": 0.5},))
    assert to_plain(config) == {"source": hidden, "runs": [{"source": hidden, "rate": 0.5}]}
    shown = "dvc+https://git.example/x@v1:d"
    assert to_show(config) == {"source": shown, "runs": [{"source": shown, "rate": 0.5}]}


def test_a_card_of_another_format_or_that_is_damaged_is_refused(tmp_path):
    card = dataclasses.make_dataclass("Card", [("format", int)], frozen=True)
    path = tmp_path / "card.json"
    options = {"format_number": 2, "error": ModelError, "name": "card"}
    path.write_text('{"format": 2}')
    assert read_card(card, path, **options) == card(2)
    for text, message in (
        ('{"format": 1}', "expected format 2, found 1"),
        ('{"format": 3}', "expected format 2, found 3"),
        ('{"format": "2"}', r"card\.format: expected a whole number, found '2'"),
        ("{", "not valid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(ModelError, match=rf"card\.json: {message}"):
            read_card(card, path, **options)
