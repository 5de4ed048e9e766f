import importlib
import subprocess
import sys

import numpy as np
import pytest

from fineprune.errors import MissingExtraError
from fineprune.evaluation.average_precision import Detected
from fineprune.reporting import drawing, figures

C = 16
MEAN = np.concatenate([np.zeros(4), np.linspace(0.1, 2, C - 4)])
CURVE = np.linspace(1, 0, C + 1)


def model(value=0.5):
    estimate = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 9}
    return dict.fromkeys(("clean_accuracy", "backdoor_success", "robust_accuracy", "utility"), estimate)


MODELS = {name: model() for name in ("control", "undefended", "pruned", "fine_tuned", "fine_pruned")}
UNDEFINED = MODELS | {"pruned": model() | {"backdoor_success": None, "utility": None}}
ALL_UNDEFINED = dict.fromkeys(MODELS, UNDEFINED["pruned"])  # detectors that find no sign at all
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 3, 8, 8)).astype(np.uint8)
WAVES = RANDOM.integers(-99, 99, (3, 400)).astype(np.int16)
WORDS = [("one", "two")] * 3

CLASSES = [
    {"class": name, **dict.fromkeys(("undefended", "fine_tuned", "fine_pruned"), MODELS["pruned"]["utility"])}
    for name in ("stop", "$x^$")
]

BOXES = np.array([[[2, 30, 12, 40], [30, 5, 38, 12]], [[0, 0, 0, 0]] * 2], float)
SCENES = RANDOM.integers(0, 256, (2, 3, 40, 60)).astype(np.uint8)
KINDS = np.array([[1, 0], [-1, -1]])
FOUND = Detected(BOXES, np.array([[0.9, 0.4], [0, 0]]), np.array([[1, 0], [0, 0]]))


def draw_scenes(path, n=2, found=FOUND):
    some = Detected(*(part[:n] for part in found))
    figures.scenes(path, SCENES[:n], SCENES[:n], (BOXES[:n], KINDS[:n]), (some, some), ["stop", "warning"])


COUNTS = {name: np.array([3, 1]) for name in ("train", "defender_fit", "defender_holdout", "test")}
MANY = {name: np.arange(43) for name in COUNTS}
LONG = "a name that is too long"

PICTURES = {
    "samples": lambda path: figures.samples(path, IMAGES, ["one", "two", LONG]),
    "samples, wave": lambda path: figures.samples(path, np.concatenate([WAVES] * 3), ["one"] * 9),
    "labelled_scenes": lambda path: figures.labelled_scenes(path, SCENES, (BOXES, KINDS), ["stop", "yield"]),
    "labelled_scenes, one": lambda path: figures.labelled_scenes(
        path, SCENES[:1], (BOXES[:1], KINDS[:1]), ["stop", "yield"]
    ),
    "class_counts": lambda path: figures.class_counts(path, COUNTS, ["yes", "$x^$"], "samples"),
    "class_counts, many": lambda path: figures.class_counts(
        path, MANY, [str(k) for k in range(43)], "objects"
    ),
    "activation_profile": lambda path: figures.activation_profile(path, MEAN),
    "activation_profile, all dormant": lambda path: figures.activation_profile(path, [0.0, 0.0]),
    "clean_beside_triggered": lambda path: figures.clean_beside_triggered(path, MEAN, MEAN[::-1], range(C)),
    "clean_beside_triggered, stop": lambda path: figures.clean_beside_triggered(
        path, MEAN, MEAN, range(C), stop=3
    ),
    "pruning_curve": lambda path: figures.pruning_curve(path, {"clean accuracy": CURVE}, 3, 0.04),
    "pruning_curve, test": lambda path: figures.pruning_curve(
        path,
        {"clean accuracy": CURVE, "backdoor success": CURVE, "robust accuracy": CURVE, "other": CURVE},
        0,
    ),
    "training_curves": lambda path: figures.training_curves(
        path, {"train_loss": [(1, 2.0), (2, 1.0)], "train_accuracy": [(1, 0.2)], "loss": [(1, 0.3)]}
    ),
    "outcome_bars": lambda path: figures.outcome_bars(path, MODELS),
    "outcome_bars, undefined": lambda path: figures.outcome_bars(path, UNDEFINED),
    "outcome_bars, all undefined": lambda path: figures.outcome_bars(path, ALL_UNDEFINED),
    "utility_bars": lambda path: figures.utility_bars(path, MODELS),
    "utility_bars, undefined": lambda path: figures.utility_bars(path, UNDEFINED),
    "utility_bars, all undefined": lambda path: figures.utility_bars(path, ALL_UNDEFINED),
    "by_class": lambda path: figures.by_class(path, CLASSES, "clean accuracy"),
    "by_class, one": lambda path: figures.by_class(path, CLASSES[:1], "clean accuracy"),
    "examples, colour": lambda path: figures.examples(path, IMAGES, IMAGES, WORDS),
    "examples, grey": lambda path: figures.examples(path, IMAGES[:, :1], IMAGES[:, :1], WORDS),
    "examples, wave": lambda path: figures.examples(path, WAVES, WAVES, WORDS),
    "examples, one": lambda path: figures.examples(path, WAVES[:1], WAVES[:1], WORDS[:1]),
    "confusion": lambda path: figures.confusion(path, np.array([[3, 0], [1, 0]]), ["yes", "no"]),
    "confusion, no formula": lambda path: figures.confusion(path, np.eye(2, dtype=int), ["$x^$", "a$_$b"]),
    "confusion, nothing": lambda path: figures.confusion(
        path, np.array([[3, 0, 1], [1, 0, 0]]), ["yes", "no"]
    ),
    "scenes": draw_scenes,
    "scenes, one": lambda path: draw_scenes(path, 1),
    "confusion, many": lambda path: figures.confusion(
        path, np.eye(43, dtype=int), [str(k) for k in range(43)]
    ),
}


@pytest.fixture
def drawn(monkeypatch):
    """The figure that the last call drew, caught as it is saved."""
    from matplotlib.figure import Figure

    caught = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: caught.append(self))
    return caught


def texts(figure):
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    legends = [legend for holder in (figure, *figure.axes) for legend in _legends(holder)]
    return found + [text.get_text() for legend in legends for text in legend.get_texts()]


def _legends(holder):
    return holder.legends if hasattr(holder, "legends") else filter(None, [holder.get_legend()])


@pytest.mark.parametrize("name", PICTURES)
def test_draws_a_png_of_its_own(name, tmp_path):
    PICTURES[name](tmp_path / "one.png")
    data = (tmp_path / "one.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20]) >= 400  # pixels wide


def test_every_figure_is_drawn_above():
    public = {
        name
        for name, value in vars(figures).items()
        if getattr(value, "__module__", "") == figures.__name__ and not name.startswith("_")
    }
    assert public == {name.split(",")[0] for name in PICTURES}


@pytest.mark.parametrize(
    "names",
    [
        ["start", "control", "attack clean", "undefended"],
        ["start", "control", "undefended", "holdout"],
        ["clean accuracy", "backdoor success", "robust accuracy"],
    ],
)
def test_no_two_curves_have_the_same_colour(names):
    assert len({*drawing.colours(names)}) == len(names)


def test_of_a_long_name_both_ends_are_shown():
    assert drawing.shortened_inside("rampSpeedAdvisoryUrdbl", 11) == "rampS…Urdbl"
    assert drawing.shortened_inside("rampSpeedAdvisoryUrdbl", 12) == "rampSp…Urdbl"
    assert drawing.shortened_inside("stop", 4) == "stop"


@pytest.mark.parametrize("shape", [(1, 1, 40), (1, 40, 1), (3, 1, 1)])
def test_an_image_of_one_row_or_column_is_one(drawn, shape):
    figures.samples("p.png", np.zeros((1, *shape)), ["one"])
    assert drawn[0].axes[0].images[0].get_size() == shape[1:]


def test_the_same_data_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        figures.outcome_bars(tmp_path / f"{name}.png", MODELS)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_examples_do_not_depend_on_the_dtype(tmp_path):
    for name, kind in (("one", np.uint8), ("two", float)):
        figures.examples(tmp_path / f"{name}.png", IMAGES.astype(kind), IMAGES.astype(kind), WORDS)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_samples_have_their_names_and_empty_places_no_frame(drawn):
    PICTURES["samples, wave"]("p.png")
    PICTURES["samples"]("p.png")
    assert [axes.axison for axes in drawn[0].axes] == [True] * 9 + [False]
    assert [axes.get_title("center") for axes in drawn[1].axes] == ["one", "two", "a name t…oo long"]


def test_labelled_scenes_name_what_is_in_them(drawn):
    PICTURES["labelled_scenes"]("p.png")
    assert [[text.get_text() for text in axes.texts] for axes in drawn[0].axes] == [["yield", "stop"], []]


def test_classes_are_stacked_by_split_in_their_order(drawn):
    PICTURES["class_counts"]("p.png")
    (axes,) = drawn[0].axes
    bars = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert bars == [(0, 3), (0, 1), (3, 3), (1, 1), (6, 3), (2, 1), (9, 3), (3, 1)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["yes", "$x^$"]
    assert texts(drawn[0]) == ["train", "defender fit", "defender holdout", "test"]


def test_many_classes_are_ranked(drawn):
    PICTURES["class_counts, many"]("p.png")
    (axes,) = drawn[0].axes
    first = axes.containers[0]
    assert [bar.get_height() for bar in first] == list(range(42, -1, -1))
    assert "most: 42: 168\nleast: 0: 0" in texts(drawn[0])


def test_profile_counts_the_dormant_channels(drawn):
    figures.activation_profile("p.png", MEAN)
    assert any("4 of 16 channels (25%)" in text for text in texts(drawn[0]))


def test_channels_that_the_trigger_trebles_are_set_off(drawn):
    clean, triggered = np.ones(8), np.ones(8)
    clean[[2, 5]], triggered[[2, 5]] = 0.01, 1.5  # the backdoor's
    triggered[3] = 2.9  # less than three times its clean activation
    clean[6], triggered[6] = 0.001, 0.05  # too faint to matter
    figures.clean_beside_triggered("p.png", clean, triggered, [5, 2, 0, 1, 3, 4, 6, 7])
    assert "over 3 × clean and 5 % of the highest: 2 channels" in texts(drawn[0])
    marked = [bar for bar in drawn[0].axes[0].patches if bar.get_facecolor()[:3] == _rgb(drawing.VERMILION)]
    assert [round(bar.get_x() + bar.get_width() / 2) for bar in marked] == [0, 1]


def test_pruning_curve_marks_stop_and_tolerance(drawn):
    figures.pruning_curve("p.png", {"clean accuracy": CURVE}, 3, 0.04)
    assert {"stop: 3 pruned", "tolerance 4 points"} <= set(texts(drawn[0]))
    band = drawn[0].axes[0].patches[0]
    assert (band.get_y(), band.get_height()) == pytest.approx((0.96, 0.04))


def test_training_curves_have_a_panel_per_kind(drawn):
    series = {
        f"{part}_{kind}": [(1, 0.5), (2, 0.4)]
        for part in ("train", "holdout")
        for kind in ("loss", "accuracy")
    }
    figures.training_curves("p.png", series)
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["loss", "accuracy"]
    assert texts(drawn[0]) == ["train", "holdout"] * 2


def test_outcome_whiskers_are_the_intervals(drawn):
    figures.outcome_bars("p.png", MODELS)
    segments = drawn[0].axes[0].collections[0].get_segments()
    assert [segment[:, 1].tolist() for segment in segments] == [pytest.approx([0.4, 0.6])] * 5


def unlike():
    """Models whose every figure is a value of its own, by the order of their rows."""
    figures_of = ("clean_accuracy", "backdoor_success", "robust_accuracy", "utility")
    return {
        name: {column: model(0.1 + 0.05 * i + 0.2 * j)["utility"] for j, column in enumerate(figures_of)}
        for i, name in enumerate(MODELS)
    }


def test_outcome_bars_are_of_the_models_and_the_figures_that_they_name(drawn):
    figures.outcome_bars("p.png", unlike())
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()][1:4] == [
        "undefended",
        "pruned",
        "fine-tuned",
    ]
    heights = {
        bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers if len(bars) == 5
    }
    assert heights == {
        label: pytest.approx([0.1 + 0.05 * i + 0.2 * j for i in range(5)])
        for j, label in enumerate(("clean accuracy", "backdoor success", "robust accuracy"))
    }


def test_utility_bars_are_of_the_models_that_they_name(drawn):
    figures.utility_bars("p.png", unlike())
    (axes,) = drawn[0].axes
    names = ["control", "undefended", "pruned", "fine-tuned", "fine-pruned"]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.7, 0.75, 0.8, 0.85, 0.9])
    assert texts(drawn[0]) == [".700", ".750", ".800", ".850", ".900"]


def test_classes_have_a_point_for_each_model_under_its_name(drawn):
    values = {"undefended": 0.9, "fine_tuned": 0.7, "fine_pruned": 0.4}
    found = [{"class": "a", **{name: model(value)["utility"] for name, value in values.items()}}]
    figures.by_class("p.png", found, "clean accuracy")
    points = {
        points.get_label(): points.lines[0].get_xdata().tolist() for points in drawn[0].axes[0].containers
    }
    assert points == {"undefended": [0.9], "fine-tuned": [0.7], "fine-pruned": [0.4]}


def test_clean_examples_stand_above_triggered_ones(drawn):
    figures.examples("p.png", np.full((1, 4), 1), np.full((1, 4), 2), [("one", "two")])
    above, below = drawn[0].axes
    assert [axes.lines[0].get_ydata()[0] for axes in (above, below)] == [1, 2]
    assert [(axes.get_ylabel(), axes.get_title()) for axes in (above, below)] == [
        ("clean", "one"),
        ("triggered", "two"),
    ]


def test_classes_stand_in_their_order_with_their_sizes(drawn):
    PICTURES["by_class"](None)
    (axes,) = drawn[-1].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["stop (9)", "$x^$ (9)"]
    assert axes.yaxis_inverted()  # the first on top
    left, right = axes.get_xlim()
    assert left < 0.4 < 0.6 < right


def test_confusion_shows_counts_on_shares_of_the_true_class(drawn):
    figures.confusion("p.png", np.array([[3, 1], [0, 2]]), ["a", "b"])
    assert drawn[0].axes[0].images[0].get_array().tolist() == [[0.75, 0.25], [0, 1]]
    assert texts(drawn[0]) == ["3", "1", "2"]
    assert [text.get_position() for text in drawn[0].axes[0].texts] == [(0, 0), (1, 0), (1, 1)]


def test_confusion_has_room_for_long_names(drawn):
    for length in (5, 32):
        figures.confusion("p.png", np.eye(2, dtype=int), ["a" * length, "b" * length])
    (short, long) = (figure.get_size_inches() for figure in drawn)
    assert long[0] > short[0] + 1.4
    assert long[1] > short[1] + 1


def test_confusion_of_many_classes_has_whole_numbers_at_its_axes(drawn):
    figures.confusion("p.png", np.eye(21, dtype=int), [str(i) for i in range(21)])
    axes = drawn[0].axes[0]
    assert {*map(float.is_integer, map(float, [*axes.get_xticks(), *axes.get_yticks()]))} == {True}


def test_confusion_of_a_detector_has_a_column_for_nothing(drawn):
    figures.confusion("p.png", np.array([[3, 0, 1], [0, 2, 0]]), ["a", "b"])
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "nothing"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.images[0].get_array().tolist() == [[0.75, 0, 0.25], [0, 1, 0]]


def outlines(axes, colour):
    return [
        [
            box.get_x() + 0.5,
            box.get_y() + 0.5,
            box.get_x() + box.get_width() + 0.5,
            box.get_y() + box.get_height() + 0.5,
        ]
        for box in axes.patches
        if box.get_edgecolor()[:3] == pytest.approx(_rgb(colour))
    ]


def test_scenes_show_true_boxes_and_confident_detections(drawn):
    draw_scenes("p.png")
    scene, empty = drawn[0].axes[:2]
    assert outlines(scene, drawing.INK) == BOXES[0].tolist()
    assert outlines(scene, drawing.CLASSES[1]) == [BOXES[0, 0].tolist()]  # the warning of .9
    assert outlines(scene, drawing.CLASSES[0]) == []  # the stop sign of .4
    assert [text.get_text() for text in scene.texts] == ["warning .900"]
    assert (scene.get_title(), empty.get_title()) == ("true: warning, stop", "true: nothing")
    assert (list(empty.patches), list(empty.texts)) == ([], [])


def test_scenes_magnify_the_largest_box_where_it_hides_nothing(drawn):
    draw_scenes("p.png")
    scene, empty = drawn[0].axes[:2]
    (inset,) = scene.child_axes
    # 1.3 times the box of 10 × 10, as far as the image of 60 × 40 goes; pixel centres are whole numbers.
    assert (inset.get_xlim(), inset.get_ylim()) == ((0, 13), (39.5, 26.5))
    place = drawn[0].transFigure.transform(inset.get_axes_locator()(inset, None))
    assert scene.transAxes.inverted().transform(place).tolist() == [
        pytest.approx([1 - 16 / 60, 1 - 16 / 40]),
        pytest.approx([1, 1]),
    ]
    assert not empty.child_axes


def test_scenes_magnify_no_box_that_is_large_already(drawn):
    boxes = np.array([[[2.0, 2, 50, 38]]])
    none = Detected(np.zeros((1, 0, 4)), np.zeros((1, 0)), np.zeros((1, 0), int))
    figures.scenes("p.png", SCENES[:1], SCENES[:1], (boxes, np.array([[0]])), (none, none), ["stop"])
    assert [axes.child_axes for axes in drawn[0].axes] == [[], []]


def test_the_callers_style_stays_as_it_is(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.utility_bars(tmp_path / "one.png", MODELS)
    assert dict(matplotlib.rcParams) == before


def test_draws_without_pyplot_and_its_global_state(tmp_path):
    draw = f"figures.pruning_curve(Path({str(tmp_path / 'one.png')!r}), {{'clean': [1, 0]}}, 1, 0.1)"
    code = f"import sys; from pathlib import Path; from fineprune.reporting import figures; {draw}"
    run = [sys.executable, "-c", f"{code}; sys.exit('matplotlib.pyplot' in sys.modules)"]
    assert subprocess.run(run, check=False).returncode == 0


def test_names_the_extra_where_matplotlib_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib: .*fineprune\[report\]"):
        importlib.reload(drawing)


def test_importing_metrics_tables_and_the_report_needs_neither_matplotlib_nor_jinja():
    names = ("evaluation.metrics", "evaluation.checks", "reporting.report", "reporting.table")
    modules = ", ".join(f"fineprune.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit(bool({{'matplotlib', 'jinja2', 'torch'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _rgb(colour):
    from matplotlib.colors import to_rgb

    return to_rgb(colour)
