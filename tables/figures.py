"""The pictures of the tables' page: pruning curves, and activations clean beside triggered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fineprune.reporting import drawing
from fineprune.reporting.drawing import BLUE, GREY, VERMILION
from tables.layout import ATTACKS

CURVES = {"clean_accuracy": ("clean accuracy", BLUE), "backdoor_success": ("backdoor success", VERMILION)}


def pruning_curves(path: Path, attacks: Sequence[Mapping[str, Any]]) -> None:
    """Clean accuracy and backdoor success over the share of channels pruned, a panel for each attack.

    Lines are means over the seeds, bands reach from the lowest seed to the highest, and a dashed line marks
    where each seed's pruning stopped.

    Args:
        path: the PNG to write.
        attacks: entries of ``pruning`` in paper.json, all of one case.
    """
    with drawing.picture(path, width=_width(attacks), height=3.2) as figure:
        for place, told in enumerate(attacks, 1):
            axes = drawing.axes(figure, "share of channels pruned", "", at=(1, len(attacks), place))
            axes.set_title(ATTACKS[told["attack"]])
            seeds = list(told["seeds"].values())
            for name, (label, colour) in CURVES.items():
                values = np.array([seed[name] for seed in seeds], float)
                share = np.linspace(0, 1, values.shape[1])
                axes.plot(share, values.mean(0), color=colour, label=label if place == 1 else None)
                axes.fill_between(share, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
            channels = len(seeds[0]["clean_accuracy"]) - 1
            for i, seed in enumerate(seeds):
                told_once = "stop of each seed" if place == 1 and i == 0 else None
                at = seed["stop"] / channels
                axes.axvline(at, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label=told_once, zorder=0)
            axes.set(xlim=(0, 1), ylim=(0, 1.02))
        figure.legend(loc="outside upper left", ncols=3)


def activations(path: Path, attacks: Sequence[Mapping[str, Any]]) -> None:
    """Mean activations in the pruning order of the first seed, a panel for each attack: clean up, triggered
    down.

    Args:
        path: the PNG to write.
        attacks: entries of ``activations`` in paper.json, all of one case.
    """
    with drawing.picture(path, width=_width(attacks), height=3.2) as figure:
        for place, told in enumerate(attacks, 1):
            one, first = next(iter(told["seeds"].values())), place == 1
            clean, triggered = np.array(one["clean"]), np.array(one["triggered"])
            only = np.isin(np.arange(len(clean)), one["backdoor_only"])
            axes = drawing.axes(
                figure,
                "channel, in pruning order",
                "mean activation" if first else "",
                at=(1, len(attacks), place),
            )
            axes.set_title(ATTACKS[told["attack"]])
            drawing.clean_above_triggered(axes, clean, triggered, only, "triggered, over 3 × clean")
            axes.axvline(
                one["stop"] - 0.5, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="pruning stops"
            )
        entries: dict[str, Any] = {}
        for axes in figure.axes:
            entries |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=4)


def _width(panels: Sequence[object]) -> float:
    """Of a picture, in inches; the legend needs the room of one and a half panels."""
    return max(6.6, 4.2 * len(panels))
