"""The pictures of the reports. Each function draws one PNG; needs the extra ``fineprune[report]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from fineprune.errors import shortened
from fineprune.evaluation.average_precision import Detected
from fineprune.reporting import classes as single
from fineprune.reporting import drawing
from fineprune.reporting.drawing import BLUE, INK, PALE, VERMILION, Array
from fineprune.reporting.table import ROWS, Models, number, rows

LEAST_SCORE = 0.5  # of a detection that is drawn
NAMED_CLASSES = 20  # more names would not be readable
LONGEST_NAME = 32  # of a class beside an axis: a longer one would leave the picture
LONGEST_ANSWER = 18  # beside a confusion matrix, where they stand at two sides
LONGEST_CAPTION = 16  # above an example: a longer one would reach into the next
Series = Mapping[str, Sequence[tuple[int, float]]]


def samples(path: Path, inputs: Array, captions: Sequence[str]) -> None:
    """Some inputs, five in a row.

    Args:
        path: the PNG to write.
        inputs: (N, channels, height, width) images in 0…255, or (N, samples) waveforms.
        captions: what stands above each, cut where it would reach into the next.
    """
    columns = min(5, len(inputs))
    lines = -(-len(inputs) // columns)
    tall = 1.7 if inputs.ndim > 2 else 1.2
    bounds = float(inputs.min()), float(inputs.max())
    with drawing.picture(path, width=max(3.6, 1.45 * columns), height=tall * lines) as figure:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, one, caption in zip(grid, inputs, captions, strict=False):
            drawing.example(axes, one, bounds, BLUE)
            caption = drawing.shortened_inside(caption, LONGEST_CAPTION)
            axes.set_title(caption, fontsize=8.5, fontweight="normal", loc="center")
        for axes in grid[len(inputs) :]:
            axes.set_axis_off()


def labelled_scenes(path: Path, images: Array, truth: tuple[Array, Array], classes: Sequence[str]) -> None:
    """Some images with the boxes that are in them, each with the colour and the name of its class.

    Args:
        path: the PNG to write.
        images: (n, channels, height, width) in 0…255.
        truth: boxes (n, K, 4) in pixels and their classes (n, K), -1 where the slot is empty.
        classes: names.
    """
    height = 0.2 + 3.4 * images.shape[2] / images.shape[3]
    with drawing.picture(path, width=max(3.6, 3.6 * len(images)), height=height) as figure:
        grid = figure.subplots(1, len(images), squeeze=False)[0]
        for axes, image, boxes, labels in zip(grid, images, *truth, strict=True):
            there = labels >= 0
            drawing.scene(axes, image, boxes[:0])
            for box, kind in zip(boxes[there], labels[there], strict=True):
                drawing.found_box(axes, box, drawing.CLASSES[kind % len(drawing.CLASSES)], classes[kind])


def class_counts(path: Path, counts: Mapping[str, Array], classes: Sequence[str], what: str) -> None:
    """How many of each class there are, stacked by split: by name up to 20 classes, by rank beyond.

    Args:
        path: the PNG to write.
        counts: ``{split: (K,) counts}``.
        classes: K names.
        what: what is counted.
    """
    named = len(classes) <= NAMED_CLASSES
    total = np.sum(list(counts.values()), axis=0)
    order = np.arange(len(classes)) if named else np.argsort(-total, kind="stable")
    places, below = np.arange(len(classes)), np.zeros(len(classes), int)
    with drawing.picture(path, height=0.9 + 0.27 * len(classes) if named else 3.5) as figure:
        axes = drawing.axes(figure, what if named else "class, most first", "" if named else what)
        axes.grid(axis="y", visible=not named)
        axes.grid(axis="x", visible=named)
        for split, of_class in counts.items():
            colour, label, values = drawing.SPLITS[split], split.replace("_", " "), of_class[order]
            if named:
                axes.barh(places, values, 0.7, left=below, color=colour, linewidth=0, label=label)
            else:
                axes.bar(places, values, 1.0, bottom=below, color=colour, linewidth=0, label=label)
            below = below + values
        if named:
            axes.set_yticks(places, _named(classes))
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(len(classes) - 0.4, -0.6)
        else:
            axes.margins(x=0.01)
            axes.locator_params(axis="x", integer=True)
            names = _named(classes)
            most, least = (f"{names[order[i]]}: {total[order[i]]:,}" for i in (0, -1))
            axes.annotate(
                f"most: {most}\nleast: {least}", (0.98, 0.95), xycoords="axes fraction", va="top", ha="right"
            )
        figure.legend(loc="outside upper left", ncols=len(counts))


def activation_profile(path: Path, mean: Sequence[float]) -> None:
    """Mean activation per channel, least active first; those below 1 % of the largest are marked.

    Args:
        path: the PNG to write.
        mean: (C,) mean activation of each channel, ≥ 0.
    """
    values = np.sort(np.asarray(mean, dtype=float))
    dormant = int((values <= 0.01 * values.max()).sum())
    with drawing.picture(path) as figure:
        axes = drawing.axes(figure, "channel, least active first", "mean activation")
        drawing.bars(axes, np.arange(len(values)), values, BLUE, "mean activation")
        axes.axvspan(-0.5, dormant - 0.5, color=PALE, alpha=0.35, linewidth=0)
        note = f"{dormant} of {len(values)} channels ({dormant / len(values):.0%})"
        axes.annotate(
            f"{note}\nbelow 1 % of the most active", (0.02, 0.95), xycoords="axes fraction", va="top"
        )


def clean_beside_triggered(
    path: Path,
    clean: Sequence[float],
    triggered: Sequence[float],
    order: Sequence[int],
    *,
    stop: int | None = None,
) -> None:
    """Activations per channel, clean upwards and triggered downwards, along the pruning order.

    What :func:`~fineprune.reporting.drawing.backdoor_only` finds is marked.

    Args:
        path: the PNG to write.
        clean: (C,) mean activation of each channel on clean inputs, ≥ 0.
        triggered: (C,) the same on triggered inputs.
        order: positions of all C channels, first pruned first.
        stop: how many of them were pruned.
    """
    up, down = np.asarray(clean, float)[list(order)], np.asarray(triggered, float)[list(order)]
    backdoor = drawing.backdoor_only(up, down)
    with drawing.picture(path, height=3.8) as figure:
        axes = drawing.axes(figure, "channel, in pruning order", "mean activation")
        label = f"over 3 × clean and 5 % of the highest: {int(backdoor.sum())} channels"
        drawing.clean_above_triggered(axes, up, down, backdoor, label)
        if stop is not None:
            drawing.mark_stop(axes, stop - 0.5, stop)
        figure.legend(loc="outside upper left", ncols=3)


def pruning_curve(
    path: Path, curves: Mapping[str, Sequence[float]], stop: int, tolerance: float | None = None
) -> None:
    """Rates against the number of channels pruned, with the stop point and the tolerance.

    Args:
        path: the PNG to write.
        curves: ``{name: (C + 1,) rates in 0…1}``; the tolerance is that of the first.
        stop: how many channels were pruned.
        tolerance: how far the first curve may drop from its start; None draws no band.
    """
    first = np.asarray(next(iter(curves.values())), float)
    with drawing.picture(path, height=3.8) as figure:
        axes = drawing.axes(figure, f"channels pruned, of {len(first) - 1}", "rate")
        for (name, values), colour in zip(curves.items(), drawing.colours(curves), strict=True):
            axes.plot(range(len(values)), values, color=colour, label=name)
            axes.plot([stop], [values[stop]], "o", color=colour, markersize=5, clip_on=False)
        if tolerance is not None:
            label = f"tolerance {100 * tolerance:g} points"
            axes.axhspan(first[0] - tolerance, first[0], color=BLUE, alpha=0.12, linewidth=0, label=label)
        drawing.mark_stop(axes, stop, stop)
        axes.set(xlim=(0, len(first) - 1), ylim=(0, 1.02))
        figure.legend(loc="outside upper left", ncols=4)


def training_curves(path: Path, series: Series) -> None:
    """Curves by epoch, one panel for each last word of the names: ``train_loss`` goes to "loss".

    Args:
        path: the PNG to write.
        series: ``{name: [(epoch, value), …]}``.
    """
    panels: dict[str, dict[str, Sequence[tuple[int, float]]]] = {}
    for name, points in series.items():
        rest, _, panel = name.rpartition("_")
        panels.setdefault(panel, {})[rest.replace("_", " ") or panel] = points
    with drawing.picture(path, height=3.2) as figure:
        for place, (panel, lines) in enumerate(panels.items(), 1):
            axes = drawing.axes(figure, "epoch", "", at=(1, len(panels), place))
            axes.set_title(panel)
            for (label, points), colour in zip(lines.items(), drawing.colours(lines), strict=True):
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, color=colour, label=label, marker="o", markersize=2.5)
            axes.locator_params(axis="x", integer=True)
            axes.legend()


def outcome_bars(path: Path, models: Models) -> None:
    """Clean accuracy, backdoor success and robust accuracy of each model, with their intervals."""
    names = rows(models)
    columns = {
        "clean_accuracy": "clean accuracy",
        "backdoor_success": "backdoor success",
        "robust_accuracy": "robust accuracy",
    }
    with drawing.picture(path) as figure:
        axes = drawing.axes(figure, "", "rate")
        for shift, (column, label) in enumerate(columns.items(), -1):
            found = [(i, models[name][column]) for i, name in enumerate(names) if models[name][column]]
            places = np.array([i + 0.26 * shift for i, _ in found])
            values, whiskers = drawing.with_whiskers([estimate for _, estimate in found])
            axes.bar(places, values, 0.23, color=drawing.colours([label])[0], label=label)
            axes.errorbar(places, values, whiskers, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        axes.set_xticks(range(len(names)), [label.replace(", ", ",\n") for label in names.values()])
        axes.tick_params(axis="x", length=0)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 1.04))
        figure.legend(loc="outside upper left", ncols=3)


def utility_bars(path: Path, models: Models) -> None:
    """Utility (clean accuracy minus backdoor success) of each model, with its interval."""
    names = {name: label for name, label in rows(models).items() if models[name]["utility"]}
    values, whiskers = drawing.with_whiskers([models[name]["utility"] for name in names])
    with drawing.picture(path, height=0.8 + 0.36 * len(names)) as figure:
        axes = drawing.axes(figure, "utility = clean accuracy − backdoor success", "")
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        axes.barh(range(len(names)), values, 0.6, color=np.where(values < 0, VERMILION, BLUE).tolist())
        axes.errorbar(
            values, range(len(names)), xerr=whiskers, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5
        )
        for place, (value, upper) in enumerate(zip(values, whiskers[1], strict=True)):
            end = (max(value + upper, 0), place)
            axes.annotate(number(value), end, (5, 0), textcoords="offset points", va="center")
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(names)), list(names.values()))
        axes.tick_params(axis="y", length=0)
        axes.set_xlim((values - whiskers[0]).min(initial=0) * 1.05, 1.12)
        axes.invert_yaxis()


def by_class(path: Path, found: Sequence[Mapping[str, Any]], figure: str) -> None:
    """A figure of single classes before and after the defence, with its intervals.

    Args:
        path: the PNG to write.
        found: what :func:`fineprune.reporting.classes.costliest` gives.
        figure: what it is called.
    """
    counts = [one[single.AFTER]["n"] for one in found]
    names = [f"{name} ({n})" for name, n in zip(_named([one["class"] for one in found]), counts, strict=True)]
    labels = [ROWS[model] for model in single.MODELS]
    with drawing.picture(path, height=1.1 + 0.34 * len(found)) as picture:
        axes = drawing.axes(picture, figure, "")
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        for shift, (model, label, colour) in enumerate(
            zip(single.MODELS, labels, drawing.colours(labels), strict=True), -1
        ):
            values, whiskers = drawing.with_whiskers([one[model] for one in found])
            places = np.arange(len(found)) + 0.22 * shift
            axes.errorbar(
                values,
                places,
                xerr=whiskers,
                fmt="o",
                color=colour,
                markersize=4.5,
                elinewidth=1,
                label=label,
            )
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        lowest = min(one[model]["low"] for one in found for model in single.MODELS)
        axes.set(xlim=(lowest - 0.02, 1.02), ylim=(len(found) - 0.5, -0.5))
        picture.legend(loc="outside upper left", ncols=3)


def examples(path: Path, clean: Array, triggered: Array, captions: Sequence[tuple[str, str]]) -> None:
    """Some inputs, clean above and triggered below.

    Args:
        path: the PNG to write.
        clean: (K, channels, height, width) images in 0…255, or (K, samples) waveforms.
        triggered: the same inputs with the trigger on.
        captions: for each input, a line above the clean one and a line above the triggered one, cut where it
            would reach into the next.
    """
    tall = 3.5 if clean.ndim > 2 else 2.6
    with drawing.picture(path, width=max(3.6, 1.45 * len(clean)), height=tall) as figure:
        grid = figure.subplots(2, len(clean), squeeze=False)
        bounds = float(min(clean.min(), triggered.min())), float(max(clean.max(), triggered.max()))
        for inputs, line, side in ((clean, grid[0], 0), (triggered, grid[1], 1)):
            for axes, one, caption in zip(line, inputs, captions, strict=True):
                drawing.example(axes, one, bounds, (BLUE, VERMILION)[side])
                text = drawing.shortened_inside(caption[side], LONGEST_CAPTION)
                axes.set_title(text, fontsize=8.5, fontweight="normal", loc="center")
        for line, name in zip(grid, ("clean", "triggered"), strict=True):
            line[0].set_ylabel(name)


def scenes(
    path: Path,
    clean: Array,
    triggered: Array,
    truth: tuple[Array, Array],
    found: tuple[Detected, Detected],
    classes: Sequence[str],
) -> None:
    """Some images, clean above and triggered below, with what is in them and what a detector finds.

    True boxes are dashed and named above the image; detections have the colour of their class, its name
    and the score. The largest true box is shown magnified in a corner, for the trigger to be seen.

    Args:
        path: the PNG to write.
        clean: (n, channels, height, width) images in 0…255.
        triggered: the same with the trigger on.
        truth: boxes (n, K, 4) in pixels and their classes (n, K), -1 where the slot is empty.
        found: detections in the clean images and in the triggered ones.
        classes: names.
    """
    boxes, labels = truth
    height = 0.6 + 6.7 * clean.shape[2] / clean.shape[3]
    with drawing.picture(path, width=max(3.6, 3.6 * len(clean)), height=height) as figure:
        grid = figure.subplots(2, len(clean), squeeze=False)
        for i, column in enumerate(grid.T):
            there = boxes[i, labels[i] >= 0]
            shown = [Detected(*(part[i, one.scores[i] >= LEAST_SCORE] for part in one)) for one in found]
            for axes, image, one in zip(column, (clean[i], triggered[i]), shown, strict=True):
                drawing.scene(axes, image, there)
                for box, score, kind in zip(*one, strict=True):
                    colour = drawing.CLASSES[kind % len(drawing.CLASSES)]
                    drawing.found_box(axes, box, colour, f"{classes[kind]} {number(score)}")
                if len(there):
                    largest = there[(there[:, 2:] - there[:, :2]).prod(1).argmax()]
                    drawing.close_up(
                        axes, image, largest, np.concatenate([there, *(one.boxes for one in shown)])
                    )
            names = ", ".join(classes[kind] for kind in labels[i] if kind >= 0)
            title = shortened(f"true: {names or 'nothing'}", 50)
            column[0].set_title(title, fontsize=8.5, fontweight="normal", loc="center")
        for line, name in zip(grid, ("clean", "triggered"), strict=True):
            line[0].set_ylabel(name)


def confusion(path: Path, matrix: Array, classes: Sequence[str]) -> None:
    """The confusion matrix, coloured by the share of each true class; counts where there is room.

    Args:
        path: the PNG to write.
        matrix: (K, K) counts, row = true class, column = predicted class; of a detector (K, K + 1), where
            the last column counts what it did not find.
        classes: K names.
    """
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = _named(classes, LONGEST_ANSWER)
    answers = [*names, "nothing"][: matrix.shape[1]]
    size = min(7.2, 2.2 + 0.4 * len(classes))
    named = len(classes) <= NAMED_CLASSES
    room = 0.12 * max(0, max(map(len, names)) - 6) if named else 0.0  # inches that long names take
    width, height = size * len(answers) / len(classes) + room, size * 0.92 + 0.8 * room
    with drawing.picture(path, width=width, height=height) as figure:
        axes = drawing.axes(figure, "predicted class", "true class")
        axes.grid(visible=False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.spines[:].set_visible(False)
        if len(answers) > len(classes):
            axes.axvline(len(classes) - 0.5, color=INK, linewidth=0.8)
        if not named:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xticks(range(len(answers)), answers)
            if max(map(len, answers)) > 2:
                for label in axes.get_xticklabels():
                    label.set(rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        for (row, column), count in np.ndenumerate(matrix if len(classes) <= 12 else matrix[:0]):
            if count:
                colour = "white" if shares[row, column] > 0.5 else INK
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)


def _named(classes: Sequence[str], longest: int = LONGEST_NAME) -> list[str]:
    """The names of classes as there is room for them beside an axis."""
    return [drawing.shortened_inside(name, longest) for name in classes]
