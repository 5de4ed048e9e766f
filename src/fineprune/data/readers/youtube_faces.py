"""YouTube Faces: ``aligned_images_DB/<person>/<video>/<frame>.jpg``, as DeepID1 crops them.

The paper splits frames, so that frames of one video are on both sides; here videos stay whole unless asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from fineprune.config import Count, Seed
from fineprune.data.readers import Raw, allocate, files_below, numbered, warnings
from fineprune.data.readers.pixels import SUFFIXES, Box, cropped, for_each, load, rgb
from fineprune.errors import DataError
from fineprune.files import hidden

ALIGNED = "aligned_images_DB"


@dataclass(frozen=True)
class YoutubeFacesOptions:
    """How to read the frames.

    Attributes:
        height, width: the size that every face is resized to, after the crop; the paper's is 55×47.
        min_per_class: people with fewer frames are left out; the paper's is 100.
        min_videos: so are people with fewer videos; a split by video needs one for each split.
        per_class: take so many frames of each person, drawn from all videos, of each at least one if there
            are not more videos than that; None for all.
        group_by: what a split must not part; ``frame`` is the paper's split, which parts videos.
        seed: of the draw.
    """

    kind: Literal["youtube_faces"]
    height: Count
    width: Count
    min_per_class: Count
    min_videos: Count
    per_class: Count | None
    group_by: Literal["video", "frame"]
    seed: Seed


def read(options: YoutubeFacesOptions, folder: Path | None, work: Path) -> Raw:
    """The faces as uint8 (N, 3, height, width), in the order of their paths.

    Raises:
        DataError: a frame is damaged or does not lie in a person's video; nobody has enough of them.
        MissingExtraError: Pillow is not installed.
    """
    root = folder / ALIGNED if folder is not None and (folder / ALIGNED).is_dir() else folder
    root, found = files_below(root, SUFFIXES, options.kind)
    people = _people(found, root)
    enough = {
        person: frames
        for person, frames in people.items()
        if len(frames) >= options.min_per_class and _videos(frames) >= options.min_videos
    }
    if not enough:
        raise DataError(
            f"{root}: expected people with at least {options.min_per_class} frames in {options.min_videos} "
            f"videos, found {max(map(len, people.values()))} frames and {max(map(_videos, people.values()))} "
            "videos at most"
        )
    paths = _drawn(list(enough.values()), options)
    spec = rgb(options.height, options.width)
    inputs = allocate(work, len(paths), spec)

    def decode(row: int) -> None:
        image = load(paths[row], channels=3)
        inputs[row] = cropped(image, face(image.width), options.height, options.width, paths[row])

    for_each(decode, len(paths))
    classes, labels = numbered(path.parts[-3] for path in paths)
    whole = options.group_by == "video"
    available = sum(map(len, enough.values()))
    counts = {
        "people_left_out": len(people.keys() | _folders(root)) - len(enough),
        "frames_left_out": len(found) - available,
        "frames_not_drawn": available - len(paths),
    }
    return Raw(
        inputs=inputs,
        labels=labels,
        groups=numbered(map(str, (path.parent if whole else path for path in paths)))[1],
        group=options.group_by,
        classes=classes,
        spec=spec,
        counts=counts,
        warnings=_warnings(counts, options),
    )


def face(width: int) -> Box:
    """DeepID1's crop: the central half of an image, which takes the width for the height too."""
    return Box(width // 4, width // 4, 3 * width // 4, 3 * width // 4)


def _people(found: Sequence[Path], root: Path) -> dict[str, list[Path]]:
    """The frames of each person, by path."""
    people: dict[str, list[Path]] = {}
    for path in found:
        place = path.relative_to(root).parts
        if len(place) != 3:
            raise DataError(f"{path}: expected {root}/<person>/<video>/<frame>")
        people.setdefault(place[0], []).append(path)
    return people


def _folders(root: Path) -> set[str]:
    """The people who have a folder, with frames or without."""
    return {path.name for path in root.iterdir() if path.is_dir() and not hidden(path.relative_to(root))}


def _videos(frames: Sequence[Path]) -> int:
    return len({path.parent for path in frames})


def _drawn(people: Sequence[Sequence[Path]], options: YoutubeFacesOptions) -> list[Path]:
    """The frames to take of each person, in order."""
    rng = np.random.default_rng(options.seed)
    return [frames[row] for frames in people for row in np.sort(_order(frames, rng)[: options.per_class])]


def _order(frames: Sequence[Path], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The frames in the order of a draw: one of each video first, so that none is left out by chance."""
    order = rng.permutation(len(frames))
    _, firsts = np.unique([str(frames[row].parent) for row in order], return_index=True)
    return np.concatenate([order[np.sort(firsts)], np.delete(order, firsts)])


def _warnings(counts: dict[str, int], options: YoutubeFacesOptions) -> tuple[str, ...]:
    told = warnings(
        counts,
        {
            "people_left_out": f"{{}} people with fewer than {options.min_per_class} frames or "
            f"{options.min_videos} videos were left out",
            "frames_left_out": "{} frames are of people who were left out",
            "frames_not_drawn": f"{{}} frames are beyond the {options.per_class} taken of each person",
        },
    )
    if options.group_by == "video":
        return told
    return *told, "frames of one video are in several splits, as in the paper: test accuracy flatters"
