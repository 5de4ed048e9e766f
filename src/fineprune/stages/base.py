"""What every stage has in common: ports, a typed config, one report, outputs that appear whole."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fineprune import __version__
from fineprune.config import parse, to_show
from fineprune.digests import sha256
from fineprune.errors import ConfigError, DataError, MissingInputError, printable
from fineprune.files import as_mapping, read_json, write_json
from fineprune.lineage import REPORT, REPORT_SCHEMA
from fineprune.outputs import whole_outputs
from fineprune.revision import revision

# What a stage's folders have, by the name of the output; every other output is a model.
CARDS = {"dataset": "dataset.json", "attack": "attack.json", "profile": "profile.json", "report": REPORT}
MODEL_CARD = "model.json"
_ARRAYS = (".npy", ".safetensors")


@dataclass(frozen=True)
class Result:
    """What a stage found out.

    Attributes:
        numbers: scalar results by name; logged as metrics.
        series: ``{name: [[step, value], …]}``; logged as metrics by step.
        warnings: sentences that the reader of the report must not miss.
        extra: further top-level entries of the stage's report.
        exit_code: what the program exits with.
        seconds_before: that attempts before this one have spent on it.
        summary: one line for the terminal, when all outputs are in place.
        text: several lines, before it.
        tidy: called when all outputs are in place.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    seconds_before: float = 0.0
    summary: str = ""
    text: str = ""
    tidy: Callable[[], None] | None = None


@dataclass(frozen=True)
class Stage:
    """One stage, told once: the command line, dvc.yaml and the container component agree with this.

    What is optional, a component need not offer.

    Attributes:
        name: the stage and its section of params.yaml.
        config: the frozen dataclass of that section.
        inputs, outputs: names of the path flags (``fine_tuned`` is ``--fine-tuned``). The output
            ``report``, which every stage has, is a folder that gets a ``report.json``.
        run: ``run(config, inputs, outputs)``, where inputs and outputs map names to paths.
        optional: names of inputs that may be left out; ``run`` then finds no such input.
        flags: the stage's switches (``--fail-on-hold``), given to ``run`` as keywords, and the help of each.
        options: the same for the stage's optional texts (``--run-id``).
        work: names of optional folders (``--checkpoints``) for what an attempt that is interrupted leaves to
            the next one, given to ``run`` as keywords.
        after: ``after(report, folder, inputs)``, called with the finished report, the folder it is in and
            the paths of the inputs.
        views: files of the report's folder, by the name of the optional flag that puts a copy of the
            file at a path of its own (``--page``).
        final: whether ``run`` does what cannot be taken back. It is given ``check`` then, to call before
            that: it raises :class:`DataError` if an input was replaced since the stage began.
    """

    name: str
    config: type
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[..., Result]
    optional: tuple[str, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    work: tuple[str, ...] = ()
    after: Callable[[Mapping[str, Any], Path, Mapping[str, Path]], None] | None = None
    views: Mapping[str, str] = field(default_factory=dict)
    final: bool = False


def execute(
    stage: Stage,
    section: Mapping[str, Any],
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    views: Mapping[str, Path] | None = None,
    keywords: Mapping[str, Any] | None = None,
    read_again: Callable[[], Mapping[str, Any]] | None = None,
) -> Result:
    """Run a stage: parse its section, check its inputs, put all its outputs in place at the end.

    Args:
        stage: the stage.
        section: its section of params.yaml.
        inputs: paths by the name of their flag.
        outputs: the same.
        views: the same, for those that are wanted.
        keywords: the stage's flags, options and folders for work by name.
        read_again: gives the section as it is by now, where it must still be the same at the end.

    Raises:
        ConfigError: the section does not fit the stage's config, or changed while the stage ran, or an output
            would be put over an input, another output, a folder that holds one, or what no stage wrote.
        MissingInputError: an input is not there, or is no folder of a stage.
        DataError: an input was replaced while the stage ran.
    """
    config: Any = parse(stage.config, section, stage.name)
    for name, path in inputs.items():
        if not path.exists():
            raise MissingInputError(f"{flag(name)}: {path}: no such file or folder")
    views = views or {}
    targets = {**outputs, **views}
    work = {name: place for name in stage.work if (place := (keywords or {}).get(name))}
    _check_apart({**inputs, **work}, targets)
    _check_replaceable(stage.name, outputs, views)
    started = time.monotonic()
    digests, code = _digests(inputs), revision()
    with whole_outputs(targets) as scratch:
        scratch["report"].mkdir()

        def check() -> None:
            _check_unchanged(inputs, digests)
            if read_again is not None and read_again() != section:
                found = f"found another section {stage.name} than at the start"
                raise ConfigError(f"--config: {found}, for which DVC would take the outputs: run again")

        result = stage.run(
            config, inputs, scratch, **(keywords or {}), **({"check": check} if stage.final else {})
        )
        if not stage.final:
            check()
        report = {
            "schema": REPORT_SCHEMA,
            "stage": stage.name,
            "version": __version__,
            "revision": code,
            "config": to_show(config),
            "inputs": digests,
            "outputs": {name: content_digest(scratch[name]) for name in outputs if name != "report"},
            "seconds": round(result.seconds_before + time.monotonic() - started, 3),
            "peak_memory_bytes": _peak_memory(),
            **_found(result),
        }
        write_json(scratch["report"] / REPORT, report)
        if stage.after is not None:
            stage.after(report, scratch["report"], inputs)
        for name in views:
            shutil.copyfile(scratch["report"] / stage.views[name], scratch[name])
    if result.tidy is not None:
        result.tidy()
    _announce(stage.name, result)
    return result


def _found(result: Result) -> dict[str, Any]:
    """What the stage's own work has to say in the report."""
    return {
        "numbers": dict(result.numbers),
        "series": {name: [list(point) for point in points] for name, points in result.series.items()},
        "warnings": list(result.warnings),
        **result.extra,
    }


def _announce(stage: str, result: Result) -> None:
    """Tell the terminal; that nobody listens any more is no reason to fail after the work."""
    with contextlib.suppress(OSError, UnicodeError):
        if result.text:
            print("", *map(printable, result.text.splitlines()), sep="\n", flush=True)
        if result.summary:
            print(f"{stage}: {printable(result.summary)}", flush=True)
    with contextlib.suppress(OSError, UnicodeError):
        for warning in result.warnings:
            print(f"{stage}: warning: {printable(warning)}", file=sys.stderr)


def _digests(inputs: Mapping[str, Path]) -> dict[str, str]:
    return {name: content_digest(path) for name, path in inputs.items()}


def _check_unchanged(inputs: Mapping[str, Path], digests: Mapping[str, str]) -> None:
    """Refuse inputs that another process has replaced: what was read of them may be of either state."""
    for name, found in _digests(inputs).items():
        if found != digests[name]:
            told = f"expected digest {digests[name][:16]}… as at the start, found {found[:16]}…: run again"
            raise DataError(f"{flag(name)}: {inputs[name]}: {told}")


def content_digest(path: Path) -> str:
    """The SHA-256 that pins a file or folder: of the file itself, or of a folder's card.

    A card (``dataset.json``, ``model.json``, …) names the SHA-256 of every other file of its
    folder, so its own digest pins them all.

    Raises:
        MissingInputError: it is neither a file nor a folder with a card.
    """
    if path.is_file():
        return sha256(path)
    for card in (*CARDS.values(), MODEL_CARD):
        if (path / card).is_file():
            return sha256(path / card)
    expected = "a folder that a stage wrote, such as a dataset, a model or a report"
    raise MissingInputError(f"{path}: expected {expected}, found none of its cards")


def _check_apart(inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> None:
    """Each output replaces what is at its path as a whole: nothing else may lie there."""
    for name, path in outputs.items():
        for other, place in {**inputs, **outputs}.items():
            if other != name and _real(place).is_relative_to(_real(path)):
                found = f"found {flag(other)} {place} there"
                raise ConfigError(f"{flag(name)}: {path}: expected a place of its own, {found}")


def _real(path: Path) -> Path:
    """Where it leads, as far as that can be told."""
    return Path(os.path.realpath(path))


def _check_replaceable(stage: str, folders: Mapping[str, Path], files: Mapping[str, Path]) -> None:
    """Somebody's photographs, or a file in the place of a folder, are found before the work, not after."""
    for name, path in {**folders, **files}.items():
        if path.name in ("", ".."):
            raise ConfigError(f"{flag(name)}: {path}: expected a path that ends in a name")
        if name in files and path.is_dir():
            raise ConfigError(f"{flag(name)}: {path}: expected the path of a file, found a folder")
        if name in folders and os.path.lexists(path) and not _is_replaceable(stage, name, path):
            raise ConfigError(
                f"{flag(name)}: {path}: expected nothing or an earlier {name} of {stage}, found other files"
            )


def _is_replaceable(stage: str, name: str, path: Path) -> bool:
    """Whether it is an empty folder, or holds what the stage writes under that name and nothing else."""
    if not path.is_dir():
        return False
    others, card = {entry.name for entry in path.iterdir()}, CARDS.get(name, MODEL_CARD)
    if card not in others:
        return not others
    try:
        told = as_mapping(read_json(path / card))
    except DataError:
        return False
    if name == "report":
        return told.get("stage") == stage
    return "format" in told and all(other == card or other.endswith(_ARRAYS) for other in others)


def flag(name: str) -> str:
    """How an input, an output, a switch or an option is called on the command line."""
    return f"--{name.replace('_', '-')}"


def _peak_memory() -> int:
    """The largest resident set of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would also count what the starting process held before it became this program.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
