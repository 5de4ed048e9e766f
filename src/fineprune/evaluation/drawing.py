"""The house style of the figures, and the strokes that several of them share.

Colours are of Okabe and Ito, which colour-blind readers can tell apart, and keep their meaning
throughout: blue for clean inputs, vermilion for the backdoor, green for robust accuracy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fineprune.errors import MissingExtraError

# Checked when a stage starts, not when it has its result in hand and wants to draw it.
try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("figures need matplotlib: pip install 'fineprune[report]'") from error

Array = npt.NDArray[Any]

BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072b2", "#d55e00", "#009e73", "#8e5a9e", "#e69f00"
LIGHT_VERMILION, INK, GREY, PALE = "#f0b98f", "#24292f", "#8b949e", "#d0d7de"
MEANING = {
    "clean": BLUE,
    "backdoor": VERMILION,
    "robust": GREEN,
    "start": GREY,
    "control": BLUE,
    "undefended": VERMILION,
}
OTHERS = (BLUE, ORANGE, PURPLE, GREY, INK)

STYLE: Any = {
    "font.size": 9.5,
    "text.color": INK,
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
    """A colour for each name: by its first word where that has a meaning, in turn otherwise."""
    others = iter(OTHERS * (len(names) // len(OTHERS) + 1))
    return [MEANING.get(name.split()[0]) or next(others) for name in names]


def with_whiskers(estimates: Sequence[Mapping[str, float]]) -> tuple[Array, Array]:
    """Values (N,), and how far their intervals reach down and up (2, N)."""
    values, low, high = (
        np.array([estimate[key] for estimate in estimates]) for key in ("value", "low", "high")
    )
    return values, np.stack([values - low, high - values])


def example(on: Axes, one: Array, bounds: tuple[float, float], colour: str) -> None:
    """One input: (samples,) as a line, (rows, columns) as a spectrogram, (channels, …) as an image."""
    on.set(xticks=[], yticks=[])
    on.spines[:].set_visible(one.ndim > 1)
    if one.ndim == 1:
        on.plot(one, color=colour, linewidth=0.4)
        on.set_ylim(*bounds)
    elif one.ndim == 2:
        on.imshow(one, cmap="magma", vmin=bounds[0], vmax=bounds[1], aspect="auto", origin="lower")
    else:
        image = np.clip(np.moveaxis(one, 0, -1) / 255, 0, 1).squeeze()
        on.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
