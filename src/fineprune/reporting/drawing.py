"""The house style of the figures, and the strokes that several of them share.

Colours are of Okabe and Ito, which colour-blind readers can tell apart, and keep their meaning
throughout: blue for clean inputs, vermilion for the backdoor, green for robust accuracy.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fineprune.data.inputs import InputSpec
from fineprune.errors import missing_extra

# Checked when a stage starts, not when it has its result in hand and wants to draw it.
try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ImportError as error:
    raise missing_extra("figures need", "matplotlib", "report") from error

Array = npt.NDArray[Any]

BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072b2", "#d55e00", "#009e73", "#8e5a9e", "#e69f00"
LIGHT_VERMILION, SKY, INK, GREY, PALE = "#f0b98f", "#56b4e9", "#24292f", "#8b949e", "#d0d7de"
MEANING = {
    "clean": BLUE,
    "backdoor": VERMILION,
    "robust": GREEN,
    "start": GREY,
    "control": BLUE,
    "attack": PURPLE,
    "undefended": VERMILION,
}
OTHERS = (BLUE, ORANGE, PURPLE, GREY, INK)
SPLITS = {"train": GREY, "defender_fit": BLUE, "defender_holdout": SKY, "test": ORANGE}
CLASSES = (BLUE, ORANGE, PURPLE, GREEN, VERMILION)  # of objects in a scene, in turn
_BRIGHT = (ORANGE, GREEN)  # white is hard to read on these

LONGEST_TAG = 26  # characters: some 1.7 inches of the 3.6 of an image

STYLE: Any = {
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": "#eaeef2",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.w_pad": 0.09,
    "figure.constrained_layout.h_pad": 0.07,
    "savefig.dpi": 150,
}


@contextmanager
def picture(path: Path, *, width: float = 7.2, height: float = 3.5) -> Iterator[Figure]:
    """A figure in the house style, saved when the block ends."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, metadata={"Software": None})


def axes(figure: Figure, x: str, y: str, *, at: tuple[int, int, int] = (1, 1, 1)) -> Axes:
    """Axes with their labels and a quiet horizontal grid; ``at`` is (rows, columns, place from 1)."""
    made = figure.add_subplot(*at)
    made.set(xlabel=x, ylabel=y)
    made.grid(axis="y")
    return made


def bars(on: Axes, places: Array, heights: Array, colour: str, label: str | None) -> None:
    """Slim bars at ``places`` (N,); nothing, not even a legend entry, for none."""
    if len(places):
        on.bar(places, heights, 0.85, color=colour, linewidth=0, label=label)
        on.margins(x=0.01)


def clean_above_triggered(on: Axes, clean: Array, triggered: Array, marked: Array, label: str) -> None:
    """Mean activations (C,) on clean inputs upwards and on triggered ones downwards.

    Args:
        on: the axes.
        clean: (C,), ≥ 0.
        triggered: (C,), ≥ 0.
        marked: bool (C,), the channels whose triggered bars stand out.
        label: what the legend calls those.
    """
    peak, places = max(clean.max(), triggered.max()), np.arange(len(clean))
    bars(on, places, clean, BLUE, "clean inputs")
    bars(on, places[~marked], -triggered[~marked], LIGHT_VERMILION, "triggered inputs")
    bars(on, places[marked], -triggered[marked], VERMILION, label)
    on.axhline(0, color=INK, linewidth=0.8)
    on.set_ylim(-1.08 * peak, 1.08 * peak)
    on.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")


def mark_stop(on: Axes, x: float, channels: int) -> None:
    """A dashed line where the pruning stopped, with a note on its roomier side."""
    on.axvline(x, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    place, side = ((6, 0), "left") if x < sum(on.get_xlim()) / 2 else ((-6, 0), "right")
    on.annotate(
        f"stop: {channels} pruned",
        (x, 0.14),
        place,
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        horizontalalignment=side,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
    )


def colours(names: Collection[str]) -> list[str]:
    """A colour for each name: by its first word where that has a meaning, else in turn of those left."""
    meant = [MEANING.get(name.split()[0]) for name in names]
    others = itertools.cycle([colour for colour in OTHERS if colour not in meant] or OTHERS)
    return [colour or next(others) for colour in meant]


def with_whiskers(estimates: Sequence[Mapping[str, float]]) -> tuple[Array, Array]:
    """Values (N,), and how far their intervals reach down and up (2, N)."""
    values, low, high = (
        np.array([estimate[key] for estimate in estimates]) for key in ("value", "low", "high")
    )
    return values, np.stack([values - low, high - values])


def backdoor_only(clean: Sequence[float] | np.ndarray[Any, Any], triggered: Any) -> np.ndarray[Any, Any]:
    """Which channels fire for the trigger and hardly without it.

    Their triggered mean is more than three times the clean one, and above 5 % of the largest of all means.
    """
    up, down = np.asarray(clean, float), np.asarray(triggered, float)
    return np.asarray((down > 3 * up) & (down > 0.05 * max(up.max(), down.max())))


def scene(on: Axes, image: Array, boxes: Array) -> None:
    """An image with outlines that show on bright and on dark.

    Args:
        on: the axes, which lose their ticks.
        image: (channels, height, width) in 0…255.
        boxes: (M, 4) left, top, right, bottom in pixels; 0 is the edge of the first one.
    """
    on.set(xticks=[], yticks=[])
    on.spines[:].set_visible(False)
    on.imshow(_shown(image), cmap="gray", vmin=0, vmax=1)
    for box in boxes:
        on.add_patch(_outline(box, "white", 1.1, "solid"))
        on.add_patch(_outline(box, INK, 1.1, (0, (2, 2))))


def found_box(on: Axes, box: Array, colour: str, note: str) -> None:
    """An outline with a note on a tag of its colour, above the box or below where there is no room; of a long
    note the two ends.
    """
    height, width = on.images[0].get_size()
    on.add_patch(_outline(box, colour, 1.6, "solid"))
    above, right = box[1] > 0.12 * height, box[0] + box[2] > width
    tag = on.annotate(
        shortened_inside(note, LONGEST_TAG),
        (box[2 if right else 0] - 0.5, box[1 if above else 3] - 0.5),
        (0, 3 if above else -3),
        textcoords="offset points",
        horizontalalignment="right" if right else "left",
        verticalalignment="bottom" if above else "top",
        color=INK if colour in _BRIGHT else "white",
        fontsize=8,
        zorder=6,  # above a close-up
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
    )
    tag.set_in_layout(False)  # else the images shrink where one reaches over an edge


def close_up(on: Axes, image: Array, box: Array, avoid: Array) -> None:
    """A magnified box with some margin, in the corner of a scene where it hides the fewest boxes.

    Nothing where the box is as large in the scene already.

    Args:
        on: axes with the scene.
        image: (channels, height, width) in 0…255.
        box: (4,) what to magnify.
        avoid: (M, 4) boxes better not hidden.
    """
    size = np.array(image.shape[:0:-1])  # width and height
    side, view = 0.4 * size.min(), 1.3 * (box[2:] - box[:2]).max()
    if view >= side:
        return
    corners = [(x, y) for y in (0, size[1] - side) for x in (size[0] - side, 0)]
    left, top = min(corners, key=lambda corner: _hidden(avoid, corner, side))
    inset = on.inset_axes((left / size[0], 1 - (top + side) / size[1], *(side / size)))
    inset.imshow(_shown(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    x, y = np.clip((box[:2] + box[2:] - view) / 2, 0, size - view) - 0.5
    inset.set(xticks=[], yticks=[], xlim=(x, x + view), ylim=(y + view, y))
    inset.spines[:].set(visible=True, color="white", linewidth=1.5)


def _outline(box: Array, colour: str, width: float, dashes: Any) -> Rectangle:
    # imshow puts the centre of the first pixel at 0; boxes put it at one half.
    corner = (box[0] - 0.5, box[1] - 0.5)
    sides = box[2] - box[0], box[3] - box[1]
    return Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=width, linestyle=dashes)


def _hidden(boxes: Array, corner: tuple[float, float], side: float) -> int:
    """How many boxes (M, 4) a square meets, whose left upper corner is given."""
    apart = (boxes[:, 2:] <= corner) | (boxes[:, :2] >= np.add(corner, side))
    return int((~apart.any(1)).sum())


def shortened_inside(text: str, length: int) -> str:
    """The text, or its two ends around ``…`` where it has more than ``length`` characters: names that begin
    alike often end in what tells them apart.
    """
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def example(on: Axes, one: Array, bounds: tuple[float, float], colour: str) -> None:
    """One input: (samples,) as a line, (channels, rows, columns) as an image."""
    on.set(xticks=[], yticks=[])
    on.spines[:].set_visible(one.ndim > 1)
    if one.ndim == 1:
        on.plot(one, color=colour, linewidth=0.4)
        on.set_ylim(*bounds)
    else:
        on.imshow(_shown(one), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def viewable(inputs: Array, spec: InputSpec) -> Array:
    """Raw images with their range stretched to 0…255; audio as it is."""
    if spec.kind == "audio":
        return inputs
    stretched: Array = (inputs.astype(float) - spec.low) * 255 / (spec.high - spec.low)
    return stretched


def _shown(image: Array) -> Array:
    """(channels, height, width) in 0…255 as (height, width[, 3]) in 0…1."""
    shown: Array = np.clip(np.moveaxis(image, 0, -1) / 255, 0, 1)
    return shown[..., 0] if shown.shape[-1] == 1 else shown
