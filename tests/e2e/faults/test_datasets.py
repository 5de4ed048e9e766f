"""Datasets that a stage refuses: damaged, changed after ingest, or with splits that are none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fineprune.cli import load_stage
from fineprune.digests import sha256

from .refusals import COMMANDS, Refused, edit


def recompute_digests(folder: Path) -> None:
    """Make the digests of a dataset's card fit its arrays again."""
    card = folder / "dataset.json"
    digests = {name: sha256(folder / name) for name in json.loads(card.read_text())["sha256"]}
    edit(card, sha256=digests)


def test_a_dataset_whose_digest_does_not_match_is_refused(
    refused: Refused, copied: Callable[[str], Path]
) -> None:
    dataset = copied("ingest/dataset")
    with (dataset / "inputs.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x07")
    refused("profile", f"{dataset / 'inputs.npy'}: digest mismatch: expected sha256 ", dataset=dataset)


@pytest.mark.parametrize("name", ["inputs.npy", "labels.npy", "groups.npy"])
def test_a_truncated_array_is_named_even_if_its_digest_was_made_to_fit(
    refused: Refused, copied: Callable[[str], Path], name: str
) -> None:
    dataset = copied("ingest/dataset")
    whole = (dataset / name).read_bytes()
    (dataset / name).write_bytes(whole[: len(whole) // 2])
    recompute_digests(dataset)
    refused("profile", f"{dataset / name}: not a readable .npy array", dataset=dataset)


@pytest.mark.parametrize("stage", [name for name in COMMANDS if "dataset" in load_stage(name).inputs])
def test_every_stage_refuses_a_dataset_with_a_group_on_both_sides_of_a_split(
    refused: Refused, copied: Callable[[str], Path], stage: str
) -> None:
    dataset = copied("ingest/dataset")
    splits = json.loads((dataset / "dataset.json").read_text())["splits"]
    groups = np.load(dataset / "groups.npy")
    groups[splits["test"][0]] = groups[splits["train"][0]]
    np.save(dataset / "groups.npy", groups)
    recompute_digests(dataset)
    refused(stage, str(dataset / "dataset.json"), "is on both sides of a split", dataset=dataset)


def test_a_class_without_samples_in_a_split_is_named(refused: Refused, copied: Callable[[str], Path]) -> None:
    dataset = copied("ingest/dataset")
    splits = json.loads((dataset / "dataset.json").read_text())["splits"]
    labels = np.load(dataset / "labels.npy")
    splits["defender_fit"] = [row for row in splits["defender_fit"] if labels[row] != 7]
    edit(dataset / "dataset.json", splits=splits)
    expected = f"{dataset / 'dataset.json'}: class '7' has no samples in split defender_fit"
    refused("prune", expected, dataset=dataset)


def test_a_dataset_of_one_class_is_refused(refused: Refused, copied: Callable[[str], Path]) -> None:
    dataset = copied("ingest/dataset")
    np.save(dataset / "labels.npy", np.zeros(1797, np.int64))
    edit(dataset / "dataset.json", classes=["0"])
    recompute_digests(dataset)
    expected = f"{dataset / 'dataset.json'}: expected at least two classes, found 1"
    refused("attack", expected, dataset=dataset)


@pytest.mark.parametrize("rows", [None, "0", [[0]], [0.5]])
def test_a_split_that_is_no_list_of_rows_is_refused(
    refused: Refused, copied: Callable[[str], Path], rows: Any
) -> None:
    dataset = copied("ingest/dataset")
    splits = json.loads((dataset / "dataset.json").read_text())["splits"]
    edit(dataset / "dataset.json", splits=splits | {"train": rows})
    refused("attack", f"{dataset / 'dataset.json'}: split train: expected ", dataset=dataset)


def test_a_row_in_two_splits_is_refused(refused: Refused, copied: Callable[[str], Path]) -> None:
    dataset = copied("ingest/dataset")
    splits = json.loads((dataset / "dataset.json").read_text())["splits"]
    splits["defender_fit"].append(splits["test"][0])
    edit(dataset / "dataset.json", splits=splits)
    refused("finetune", "split test holds a row twice, or one of another split", dataset=dataset)


def test_an_evaluation_of_another_dataset_is_not_promoted(
    refused: Refused, copied: Callable[[str], Path]
) -> None:
    dataset = copied("ingest/dataset")
    edit(dataset / "dataset.json", licence="another")
    refused("promote", str(dataset), "expected an evaluation on this dataset", dataset=dataset)
