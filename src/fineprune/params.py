"""Parameters as plain values: sections of YAML files, laid over each other, and a command line's settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fineprune.errors import ConfigError, excerpt, one_line


def read_section(paths: Sequence[Path], section: str, *, known: Sequence[str] = ()) -> dict[str, Any]:
    """The ``section`` of the given params files, later files overriding earlier ones key by key.

    Args:
        paths: of the files.
        section: its name.
        known: all that a file may hold besides, so that a misspelt section is not left out in silence;
            empty for anything.

    Raises:
        ConfigError: a file is missing, is not YAML, holds what is not known, or no file has the section.
    """
    merged: dict[str, Any] = {}
    found = False
    for path in paths:
        whole = read_yaml(path)
        if known and (strangers := [str(key) for key in whole if key not in known]):
            raise ConfigError(f"{path}: expected sections of stages, found {', '.join(strangers)}")
        values = whole.get(section)
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise ConfigError(f"{path}: {section}: expected a mapping, found {excerpt(values)}")
        found = True
        merged = merge(merged, values)
    if not found:
        raise ConfigError(f"{', '.join(map(str, paths))}: no section {section!r}")
    return merged


def read_yaml(path: Path) -> Mapping[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: it is missing, is not YAML, or holds something else.
    """
    import yaml

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _unambiguous())  # noqa: S506 - a safe loader
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror}") from error
    # PyYAML passes on what a date or bytes raise.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {one_line(error)}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: expected a mapping of sections, found {excerpt(values)}")
    return values


def _unambiguous() -> Any:
    """PyYAML's safe loader, which would take the last of two equal keys, refusing them."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key, number in Counter(keys).items():
                if number > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"expected {key} once, found it {number} times", node.start_mark
                    )
            return super().construct_mapping(node, deep)

    return Loader


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``; a mapping with another ``kind`` replaces the whole mapping below it."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            same_kind = below.get("kind", value.get("kind")) == value.get("kind", below.get("kind"))
            merged[key] = merge(below, value) if same_kind else dict(value)
        else:
            merged[key] = value
    return merged


class Text(str):
    """A value as a command line gives it: ``parse`` reads it as the YAML that its field asks for."""


def override(section: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The section with ``key=value`` settings laid over it, later ones last.

    Args:
        section: a stage's section.
        settings: the key may be dotted (``poison.rate=0.05``); an empty value is null.

    Raises:
        ConfigError: a setting has no ``=``, or a key of it.
    """
    for setting in settings:
        key, equals, value = setting.partition("=")
        names = key.split(".")
        if not equals or not all(names):
            raise ConfigError(f"--set: expected KEY=VALUE, found {setting!r}")
        change: Any = Text(value)
        for name in reversed(names):
            change = {name: change}
        section = merge(section, change)
    return dict(section)
