import numpy as np
import pytest

from fineprune.data.format import SPLITS, write_dataset
from fineprune.data.inputs import InputSpec
from fineprune.reporting import contents

SIZE = {"train": 6, "defender_fit": 3, "defender_holdout": 1, "test": 2}  # samples of each class


@pytest.fixture
def told(monkeypatch):
    """What the figures were asked to draw, by their name."""
    found = {}
    for name in ("samples", "labelled_scenes", "class_counts"):
        monkeypatch.setattr(
            contents.figures, name, lambda path, *given, name=name: found.update({name: (path, *given)})
        )
    return found


def write(path, *, classes=2, spec=None, labels=None, **others):
    """A dataset whose inputs are filled with the number of their row; every class is in every split."""
    spec = spec or InputSpec("image", (1, 2, 2), "uint8", 0, 255, None)
    count = classes * sum(SIZE.values())
    if labels is None:
        labels = np.arange(count) % classes
    edges = np.cumsum([0, *(classes * SIZE[name] for name in SPLITS)])
    rows = np.arange(count)
    splits = {name: rows[edges[i] : edges[i + 1]] for i, name in enumerate(SPLITS)}
    inputs = np.empty((count, *spec.shape), spec.dtype)
    inputs[:] = rows.reshape(-1, *[1] * len(spec.shape))
    card = {
        "name": "small",
        "input": spec,
        "classes": [f"class {k}" for k in range(classes)],
        "group": "file",
        "splits": splits,
        "origin": {},
        "licence": "none",
    } | {key: value for key, value in others.items() if key != "places"}
    if "places" in others:
        card["places"] = "boxes"
    return write_dataset(path, inputs, labels, rows, card, places=others.get("places"))


def shown(told):
    """The rows whose inputs were drawn."""
    _, inputs, captions = told["samples"]
    return inputs.reshape(len(inputs), -1)[:, 0].astype(int).tolist(), captions


def test_all_splits_are_counted_by_class(tmp_path, told):
    contents.draw(tmp_path, write(tmp_path / "data", classes=3))
    path, counts, classes, what = told["class_counts"]
    assert {name: found.tolist() for name, found in counts.items()} == {n: [SIZE[n]] * 3 for n in SPLITS}
    assert (path, list(classes)) == (tmp_path / "class_counts.png", ["class 0", "class 1", "class 2"])
    assert what == "samples"


@pytest.mark.parametrize(("classes", "each"), [(2, 3), (4, 2), (9, 1), (10, 1)])
def test_every_class_of_few_is_shown_and_nothing_but_the_defenders(tmp_path, told, classes, each):
    dataset = write(tmp_path / "data", classes=classes)
    contents.draw(tmp_path, dataset)
    rows, captions = shown(told)
    assert set(rows) <= set(dataset.splits["defender_fit"].tolist())
    assert captions == [f"class {k}" for k in range(classes) for _ in range(each)]
    assert [f"class {dataset.labels[row]}" for row in rows] == captions


def test_ten_of_many_classes_are_shown_from_the_first_to_the_last(tmp_path, told):
    contents.draw(tmp_path, write(tmp_path / "data", classes=19))
    assert shown(told)[1] == [f"class {k}" for k in range(0, 19, 2)]


def test_sound_is_shown_as_it_is_and_images_in_their_range(tmp_path, told):
    sound = InputSpec("audio", (4,), "int16", -99, 99, 8000)
    dataset = write(tmp_path / "sound", spec=sound)
    contents.draw(tmp_path, dataset)
    assert shown(told)[0] == [12, 14, 16, 13, 15, 17]
    dim = InputSpec("image", (1, 2, 2), "uint8", 0, 51, None)
    contents.draw(tmp_path, write(tmp_path / "dim", spec=dim))
    assert shown(told)[0] == [5 * row for row in (12, 14, 16, 13, 15, 17)]


def test_scenes_with_objects_are_shown_and_objects_counted(tmp_path, told):
    count = 2 * sum(SIZE.values())
    labels = np.stack([np.arange(count) % 2, np.full(count, 1)], 1)
    labels[13:15] = -1  # the second and the third of the defender's six are empty
    boxes = np.broadcast_to(np.array([0, 0, 2, 1], float), (count, 2, 4))
    dataset = write(tmp_path / "data", labels=labels, places=boxes, task="detection")
    contents.draw(tmp_path, dataset)
    path, inputs, (places, kinds), _ = told["labelled_scenes"]
    assert inputs[:, 0, 0, 0].tolist() == [12, 15, 17]
    assert kinds.tolist() == [[0, 1], [1, 1], [1, 1]]
    assert (places.shape, path.name) == ((3, 2, 4), "labelled_scenes.png")
    assert "samples" not in told
    _, counts, _, what = told["class_counts"]
    assert (counts["defender_fit"].tolist(), what) == ([2, 6], "objects")
