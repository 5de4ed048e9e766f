"""Typed, frozen configuration: plain values become a dataclass, or one error lists all their faults.

A config class is a frozen dataclass without defaults: the only home of a default is params.yaml. A key
that may be null may be left out.
Supported field types: bool, int, float, str, ``Literal``, ``X | None``, ``tuple[X, ...]``,
``dict[str, Any]``, a nested config, a union of configs told apart by their ``kind`` field, and
``Annotated[number, Range(...)]``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

from fineprune.errors import ConfigError, FinePruneError, excerpt, without_credentials
from fineprune.files import read_json
from fineprune.params import Text

T = TypeVar("T")

# YAML 1.1, which PyYAML and kfp read, takes a number without a point, or without a sign in its exponent, for
# a string.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a number may take; ``gt``/``lt`` exclude the bound, ``ge``/``le`` include it."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )

    def __str__(self) -> str:
        low = f"({self.gt:g}" if self.gt is not None else f"[{self.ge:g}" if self.ge is not None else "(-inf"
        high = f"{self.lt:g})" if self.lt is not None else f"{self.le:g}]" if self.le is not None else "inf)"
        return f"{low}, {high}"


Fraction = Annotated[float, Range(ge=0, le=1)]
# Far beyond any use, and far within what float32 and the sizes of arrays hold, products of two included.
Positive = Annotated[float, Range(gt=0, le=1e12)]
NonNegative = Annotated[float, Range(ge=0, le=1e12)]
Count = Annotated[int, Range(ge=1, le=10**9)]
Share = Annotated[float, Range(gt=0, lt=1)]
PositiveShare = Annotated[float, Range(gt=0, le=1)]
Seed = Annotated[int, Range(ge=0, le=2**53)]  # Kubeflow sends numbers as doubles


def parse(config: type[T], values: Any, where: str) -> T:
    """Build ``config`` from plain values, checking every key.

    Args:
        config: a frozen dataclass without defaults.
        values: what YAML or JSON gave for it.
        where: what to call it in messages, for example ``attack``.

    Raises:
        ConfigError: one line that lists every unknown, missing, mistyped and out-of-range key.
    """
    problems: list[str] = []
    try:
        result = _convert(config, values, where, problems)
    except RecursionError as error:
        raise ConfigError(f"{where}: expected plain values, found some that are nested too deeply") from error
    if problems:
        raise ConfigError("; ".join(problems))
    return typing.cast(T, result)


def read_card(card: type[T], path: Path, *, format_number: int, error: type[FinePruneError], name: str) -> T:
    """Read the JSON file that describes a folder into ``card``, a config with a ``format`` field.

    Args:
        card: a frozen dataclass without defaults.
        path: of the file.
        format_number: the only value of ``format`` that is understood.
        error: what to raise.
        name: what to call the card in messages.

    Raises:
        error: the file is missing, is not JSON, has other keys or types, or another format.
    """
    try:
        values: Any = parse(card, read_json(path, error), name)
    except ConfigError as fault:
        raise error(f"{path}: {fault}") from fault
    if values.format != format_number:
        raise error(f"{path}: expected format {format_number}, found {values.format}")
    return typing.cast(T, values)


def to_plain(config: Any) -> Any:
    """The plain values (dicts, lists, numbers, strings) that ``parse`` would turn into ``config``."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_show(config: Any) -> Any:
    """As :func:`to_plain`, with no credentials in any text: for a report, a page, a registry."""
    return _without_credentials(to_plain(config))


def _without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_credentials(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_credentials(each) for each in value]
    return without_credentials(value) if isinstance(value, str) else value


def _convert(expected: Any, value: Any, where: str, problems: list[str]) -> Any:
    """``value`` as ``expected``; a fault is appended to ``problems`` and None returned."""
    if isinstance(value, Text):
        value = _read_text(value, expected)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is Annotated:
        converted = _convert(arguments[0], value, where, problems)
        for bounds in arguments[1:]:
            if converted is not None and converted not in bounds:
                problems.append(f"{where}: expected a value in {bounds}, found {excerpt(value)}")
        return converted
    if dataclasses.is_dataclass(expected):
        return _convert_dataclass(expected, value, where, problems)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where, problems)
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return arguments[arguments.index(value)]  # 3 where 3.0 was given
        return _fault(f"one of {', '.join(map(str, arguments))}", value, where, problems)
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_convert(arguments[0], v, f"{where}[{i}]", problems) for i, v in enumerate(value))
        return _fault("a list", value, where, problems)
    if origin is dict:
        if isinstance(value, Mapping):
            return _convert_plain(value, where, problems)
        return _fault("a mapping", value, where, problems)
    return _convert_scalar(expected, value, where, problems)


def _convert_dataclass(expected: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        return _fault("a mapping", value, where, problems)
    hints = typing.get_type_hints(expected, include_extras=True)
    names = [field.name for field in dataclasses.fields(expected)]
    problems += [f"{where}.{key}: unknown key" for key in value if key not in names]
    before = len(problems)
    converted = {}
    for name in names:
        if name in value:
            converted[name] = _convert(hints[name], value[name], f"{where}.{name}", problems)
        elif type(None) in typing.get_args(hints[name]):
            converted[name] = None  # kfp cannot compile a null into a dict, so that it leaves the key out
        else:
            problems.append(f"{where}.{name}: missing")
    return expected(**converted) if len(problems) == before else None


def _convert_union(options: tuple[Any, ...], value: Any, where: str, problems: list[str]) -> Any:
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return _convert(options[0], value, where, problems)
    by_kind = {kind: option for option in options for kind in _kinds(option)}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in by_kind:
        return _fault(f"one of {', '.join(by_kind)}", kind, f"{where}.kind", problems)
    return _convert(by_kind[kind], value, where, problems)


def _convert_plain(value: Any, where: str, problems: list[str]) -> Any:
    """Any JSON value; a whole float becomes an int at every depth, because Kubeflow did the reverse."""
    if isinstance(value, Text):
        value = _read_text(value, dict)
    if isinstance(value, Mapping):
        return {key: _convert_plain(v, f"{where}.{key}", problems) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert_plain(v, f"{where}[{i}]", problems) for i, v in enumerate(value)]
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) <= 2**53 else value
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return _fault("a finite number, a string, true, false, null, a list or a mapping", value, where, problems)


def _read_text(text: Text, expected: Any) -> Any:
    """What a command line's text stands for where ``expected`` is wanted; one that is no YAML is itself."""
    import yaml

    union = typing.get_origin(expected) in (Union, types.UnionType)
    # A string stays as it is: the revision 0012345 is no number.
    if text and str in (typing.get_args(expected) if union else (expected,)):
        return str(text)
    with contextlib.suppress(ValueError):
        return int(text) if text.isdecimal() else float(text)  # YAML 1.1 takes 1e-2 for a string
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return str(text)


def _kinds(option: Any) -> tuple[str, ...]:
    return typing.get_args(typing.get_type_hints(option)["kind"])


def _convert_scalar(expected: Any, value: Any, where: str, problems: list[str]) -> Any:
    if expected is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if expected is float and number and abs(value) <= sys.float_info.max:  # NaN compares false
        return float(value)
    # Kubeflow turns the ints inside a dict parameter into floats: 3 arrives as 3.0.
    if expected is int and number and (isinstance(value, int) or value.is_integer()):
        return int(value)
    if expected in (bool, str) and isinstance(value, expected):
        return value
    names = {float: "a finite number", int: "a whole number", bool: "true or false", str: "a string"}
    return _fault(names[expected], value, where, problems)


def _fault(expected: str, value: Any, where: str, problems: list[str]) -> None:
    problems.append(f"{where}: expected {expected}, found {excerpt(value)}")
