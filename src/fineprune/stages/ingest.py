"""``fineprune ingest``: a source becomes a dataset, split by group so that nothing leaks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fineprune.config import Seed, Share
from fineprune.data.format import EMPTY, write_dataset
from fineprune.data.generators.faces import FacesOptions
from fineprune.data.generators.speech import SpeechOptions
from fineprune.data.generators.street_scenes import StreetScenesOptions
from fineprune.data.readers import Raw, read
from fineprune.data.readers.coco import CocoOptions
from fineprune.data.readers.digits import DigitsOptions
from fineprune.data.readers.faces_hdf5 import FacesHdf5Options
from fineprune.data.readers.gtsrb import GtsrbOptions
from fineprune.data.readers.images import ImagesOptions
from fineprune.data.readers.lisa import LisaOptions
from fineprune.data.readers.pascal_voc import PascalVocOptions
from fineprune.data.readers.wav import WavOptions
from fineprune.data.readers.youtube_faces import YoutubeFacesOptions
from fineprune.data.sources import open_source
from fineprune.data.splits import seen_before, split_by_group
from fineprune.errors import ConfigError, DataError
from fineprune.reporting import contents
from fineprune.stages.base import Result, Stage
from fineprune.stages.page import VIEWS, write_page

Reader = (
    DigitsOptions
    | WavOptions
    | ImagesOptions
    | YoutubeFacesOptions
    | FacesHdf5Options
    | GtsrbOptions
    | LisaOptions
    | PascalVocOptions
    | CocoOptions
)
Generator = FacesOptions | SpeechOptions | StreetScenesOptions


@dataclass(frozen=True)
class AuthorsTest:
    """Test on what the data set's authors test on; the format of the source must say what that is."""

    kind: Literal["authors"]


@dataclass(frozen=True)
class RandomTest:
    """Test on a random share of all samples."""

    kind: Literal["random"]
    share: Share


@dataclass(frozen=True)
class IngestConfig:
    """What to read and how to split it.

    Attributes:
        name: what to call the dataset.
        source: ``digits``, ``generated``, a folder, a ``.tar.gz``, ``s3://…`` or ``dvc+<repo>@<rev>:<path>``.
        generator: what draws or speaks the data of the source ``generated``; None for any other source.
        revision: of a ``dvc+`` source, instead of the one it names.
        md5: the md5, as DVC computes it, that the source must have; None to take it as it is.
        reader: the format of the source, and the reader's options.
        defender_fit: share of all samples that the defender ranks channels on and trains with.
        defender_holdout: share of all samples that only fine-tuning's early stop looks at.
        test: where the test split comes from; ``train`` gets what is left.
        seed: of the split.
        licence: instead of what the reader knows of it.
    """

    name: str
    source: str
    generator: Generator | None
    revision: str | None
    md5: str | None
    reader: Reader
    defender_fit: Share
    defender_holdout: Share
    test: AuthorsTest | RandomTest
    seed: Seed
    licence: str | None


def run(config: IngestConfig, inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> Result:
    """Read the source, split it and write the dataset.

    Raises:
        ConfigError: the shares leave nothing for ``train``, or the source has no authors' test set.
        DataError: the source is damaged or has another md5, or a split would lack a class.
        StorageError: the source cannot be fetched.
    """
    opened = open_source(config.source, revision=config.revision, md5=config.md5, generator=config.generator)
    with opened as source, tempfile.TemporaryDirectory() as work:
        raw = read(config.reader, source.folder, Path(work))
        try:
            splits = _split(raw, config)
        except DataError as error:  # what was skipped may be the reason; its sentences begin with its count
            skipped = (text for text in raw.warnings if text[0].isdigit())
            raise DataError("; ".join([str(error), *skipped])) from error
        card = {
            "name": config.name,
            "task": raw.task,
            "input": raw.spec,
            "classes": list(raw.classes),
            "places": raw.place_kind,
            "group": raw.group,
            "splits": splits,
            "origin": source.origin,
            "licence": config.licence or source.licence or raw.licence or "not stated",
        }
        written = write_dataset(
            outputs["dataset"], raw.inputs, raw.labels, raw.groups, card, places=raw.places
        )
    contents.draw(outputs["report"], written)
    repeats = seen_before(written)
    numbers = {"samples": len(raw.labels), "classes": len(raw.classes), "groups": len(np.unique(raw.groups))}
    numbers |= {f"samples_{name}": len(rows) for name, rows in splits.items()}
    if raw.task == "detection":
        numbers["objects"] = int((raw.labels != EMPTY).sum())
    numbers |= {"test_repeats": repeats, **raw.counts}
    warnings = list(raw.warnings)
    if repeats:
        warnings.append(
            f"{repeats} test inputs are byte for byte copies, of another split's or of one another: test "
            "accuracy flatters"
        )
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in splits.items())
    summary = f"{len(raw.labels)} samples of {len(raw.classes)} classes: {sizes}"
    return Result(numbers=numbers, warnings=warnings, extra={"origin": source.origin}, summary=summary)


def _split(raw: Raw, config: IngestConfig) -> dict[str, Any]:
    fractions = {"defender_fit": config.defender_fit, "defender_holdout": config.defender_holdout}
    fixed_test = None
    if isinstance(config.test, RandomTest):
        fractions["test"] = config.test.share
    elif raw.authors_test is None:
        raise ConfigError(
            "ingest.test: the source's format names no test set of its authors; use kind random"
        )
    else:
        fixed_test = raw.authors_test
    return split_by_group(
        raw.labels, raw.groups, fractions, classes=raw.classes, seed=config.seed, fixed_test=fixed_test
    )


STAGE = Stage(
    name="ingest",
    config=IngestConfig,
    inputs=(),
    outputs=("dataset", "report"),
    run=run,
    after=write_page,
    views=VIEWS,
)
