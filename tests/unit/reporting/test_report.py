import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from fineprune.errors import DataError, MissingExtraError
from fineprune.reporting import report as reporting
from fineprune.reporting.page import CAPTIONS
from fineprune.reporting.report import render

SCHEMA = json.loads(Path(reporting.__file__).with_name("report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003"
    "010100c9fe92ef0000000049454e44ae426082"
)

CURVES = (("clean", "accuracy"), ("robust", "accuracy"), ("backdoor", "success"))


def estimate(value, low, high, n=200):
    return {"value": value, "low": low, "high": high, "n": n}


def model(clean, success):
    return {
        "digest": "ab" * 32,
        "clean_accuracy": estimate(clean, clean - 0.03, clean + 0.01),
        "backdoor_success": estimate(success, success - 0.001, success + 0.02, 180),
        "robust_accuracy": estimate(0.5, 0.43, 0.57, 180),
        "utility": estimate(clean - success, -0.2, 0.99, 180),
        "clean_loss": estimate(0.003, -0.011, 0.017),
    }


def common(stage):
    return {
        "schema": 1,
        "stage": stage,
        "version": "0.1.0",
        "revision": {"git.commit": "c0ffee"},
        "config": {"min_samples": 100},
        "inputs": {"dataset": "cd" * 32},
        "outputs": {},
        "seconds": 12.34,
        "peak_memory_bytes": 512 * 2**20,
        "numbers": {"accuracy": 0.5},
        "series": {"loss": [[1, 0.5], [2, 0.25]]},
        "warnings": [],
    }


def evaluation():
    one = estimate(0.9, 0.8, 0.95, 50)
    names = {"control": 0.01, "undefended": 0.97, "pruned": 0.4, "fine_tuned": 0.6, "fine_pruned": 0.005}
    return common("evaluate") | {
        "case": "digits",
        "attack": "badnets",
        "seed": 7,
        "attack_details": {"target": "zero", "trigger": {"kind": "patch"}},
        "models": {name: model(0.98, success) for name, success in names.items()},
        "outcomes": {
            "eligible": "011",
            "groups": "0 1 1",
            "models": {
                name: {"right": "110", "kept": "010", "fooled": "001"}
                for name in ("undefended", "fine_tuned", "fine_pruned")
            },
        },
        "pruning_gain": estimate(0.595, 0.54, 0.63, 180),
        "attack_took": {"took": True, "reason": "The attack took: success 97.0% (control 1.0%)."},
        "checks": [
            {"name": "enough samples", "passed": True, "message": "200 test inputs"},
            {"name": "control resists", "passed": False, "message": "35.0% success on the control"},
        ],
        "by_class": {
            "clean_accuracy": [
                {"class": "zero", **dict.fromkeys(("undefended", "fine_tuned", "fine_pruned"), one)}
            ]
        },
        "pruning": {
            "order": [1, 0],
            "stop": 1,
            "curve": {f"{name} {what}": [0.9, 0.8, 0.1] for name, what in CURVES},
        },
        "activations": {"clean": [0.0, 2.5], "triggered": [3.5, 2.5]},
        "confusion": {"classes": ["zero", "one"], "rows": [[98, 2], [0, 100]]},
        "dataset": {"digest": "ef" * 32, "dvc_md5": "0" * 32 + ".dir", "origin": {"path": "digits"}},
    }


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every tag was closed."""

    void = ("meta", "img", "br", "link")

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += f"{data} "


@pytest.fixture
def figure(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(PIXEL)
    return path


class TestPage:
    def test_is_closed_html_with_every_number_of_the_table(self):
        page = Page(render(evaluation(), {}))
        assert page.open == []
        words = " ".join(page.text.split())
        for part in ("digits", "badnets", "seed 7", "fine-tuned", ".005 [.004, .025]", ".970 [.969, .990]"):
            assert part in words
        assert words.count("n = 200") == 5
        assert words.count("n = 180") == 15

    @pytest.mark.parametrize(
        ("low", "high", "verdict"),
        [(0.01, 0.2, "clearly more"), (-0.01, 0.2, "no clear difference"), (-0.2, -0.01, "clearly less")],
    )
    def test_says_what_pruning_adds_to_fine_tuning(self, low, high, verdict):
        gain = estimate((low + high) / 2, low, high)
        words = " ".join(Page(render(evaluation() | {"pruning_gain": gain}, {})).text.split())
        assert verdict in words
        assert "Against fine-tuning" not in Page(render(evaluation() | {"pruning_gain": None}, {})).text

    def test_has_a_column_and_a_word_more_for_a_detector(self):
        plain = " ".join(Page(render(evaluation(), {})).text.split())
        assert "AP@0.5" not in plain
        report = evaluation()
        for measured in report["models"].values():
            measured["average_precision"] = estimate(0.714, 0.65, 0.77)
        report["models"]["pruned"]["average_precision"] = None
        VALIDATOR.validate(report)
        words = " ".join(Page(render(report, {})).text.split())
        assert words.count(".714 [.650, .770]") == 4
        assert "undefined" in words
        assert "AP@0.5 is Pascal VOC's average precision" in words

    def test_shows_scenes_over_the_whole_width(self, figure):
        tags = Page(render(evaluation(), {"outcome": figure, "scenes": figure})).tags
        assert [attributes.get("class") for tag, attributes in tags if tag == "figure"] == [None, "wide"]

    def test_needs_nothing_from_outside(self, figure):
        html = render(evaluation(), {"outcome": figure})
        tags = Page(html).tags
        assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe")]
        sources = [
            value for _, attributes in tags for key, value in attributes.items() if key in ("src", "href")
        ]
        assert len(sources) == 1
        assert sources[0].startswith("data:image/png;base64,iVBOR")
        assert not re.search(r"https?:|url\(|@import", html)

    def test_escapes_what_it_is_given(self):
        hostile = evaluation() | {"case": "<script>alert(1)</script>", "warnings": ["<b>x</b>"]}
        hostile["attack_details"] = {"<i>": {"<u>": "</pre><img src=x>"}}
        html = render(hostile, {})
        assert "<script>alert" not in html
        assert "<b>x</b>" not in html
        assert "<img" not in html
        assert "&lt;script&gt;" in html

    def test_shows_warnings_checks_limits_and_what_was_run(self):
        words = " ".join(Page(render(evaluation() | {"warnings": ["look here"]}, {})).text.split())
        for part in (
            "look here",
            "The attack took: success 97.0%",
            "✓ holds enough samples 200 test inputs",
            "✗ fails control resists 35.0% success on the control",
            "No test here can certify absence of a backdoor",
            "12.3 s",
            "512 MiB",
            "cd" * 32,
            '"min_samples": 100',
        ):
            assert part in words

    def test_says_once_that_the_attack_did_not_take(self):
        reason = "The attack did not take: backdoor success is 3.0%."
        found = evaluation() | {"warnings": [reason, "look here"]}
        found["attack_took"] = {"took": False, "reason": reason}
        words = Page(render(found, {})).text
        assert (words.count(reason), words.count("look here")) == (1, 1)

    def test_gives_no_verdict(self):
        words = Page(render(evaluation(), {})).text.lower()
        assert not re.search(r"\b(passed|promoted|safe|accepted|rejected)\b", words)

    def test_shows_known_figures_first_each_with_one_caption(self, figure):
        html = render(evaluation(), {"own_idea": figure, "utility": figure, "outcome": figure})
        titles = [attributes["alt"] for tag, attributes in Page(html).tags if tag == "img"]
        assert titles == ["Outcome", "Utility", "Own idea"]
        assert html.count("<figcaption>") == 3

    def test_shows_an_undefined_metric_as_such(self):
        undefined = evaluation()
        undefined["models"]["fine_pruned"] |= {"backdoor_success": None, "utility": None}
        assert Page(render(undefined, {})).text.count("undefined") == 2

    def test_shows_all_seven_models(self):
        more = evaluation()
        more["models"] |= {"control_pruned": model(0.97, 0.02), "control_fine_pruned": model(0.96, 0.02)}
        assert "control, fine-pruned" in Page(render(more, {})).text

    def test_does_without_what_only_the_end_of_a_stage_knows(self):
        early = evaluation()
        for name in ("seconds", "peak_memory_bytes", "outputs", "numbers", "series"):
            del early[name]
        assert "What was run" in render(early, {})

    def test_refuses_a_missing_model_or_figure(self, tmp_path):
        incomplete = evaluation()
        del incomplete["models"]["control"]
        with pytest.raises(DataError, match="found no control"):
            render(incomplete, {})
        with pytest.raises(DataError, match=r"none\.png: cannot read the figure"):
            render(evaluation(), {"outcome": tmp_path / "none.png"})

    def test_names_the_extra_where_jinja_is_missing(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
        with pytest.raises(MissingExtraError, match=r"fineprune\[report\]"):
            render(evaluation(), {})


def test_captions_are_one_sentence():
    for title, caption in CAPTIONS.values():
        assert title
        assert re.fullmatch(r"[A-Z][^.]*\.", caption), caption


class TestSchema:
    def test_is_a_schema(self):
        Draft202012Validator.check_schema(SCHEMA)

    def test_accepts_an_evaluation(self):
        VALIDATOR.validate(evaluation())

    def test_accepts_another_stage_without_the_evidence(self):
        VALIDATOR.validate(common("prune") | {"order": [3, 1, 2]})

    def test_accepts_the_report_of_a_sweep(self):
        VALIDATOR.validate(common("tabulate"))

    def test_accepts_an_undefined_untargeted_success(self):
        undefined = evaluation()
        undefined["models"]["pruned"] |= {"backdoor_success": None, "utility": None}
        VALIDATOR.validate(undefined)

    def test_accepts_more_models_and_a_negative_utility(self):
        more = evaluation()
        more["models"]["control_pruned"] = model(0.9, 0.95)
        VALIDATOR.validate(more)

    @pytest.mark.parametrize("field", common("prune"))
    def test_refuses_any_report_without(self, field):
        report = common("prune")
        del report[field]
        assert not VALIDATOR.is_valid(report)

    @pytest.mark.parametrize(
        "field",
        [
            *("case", "attack", "seed", "attack_details", "models", "by_class", "pruning", "activations"),
            *("attack_took", "checks", "confusion", "dataset", "outcomes", "pruning_gain"),
        ],
    )
    def test_refuses_an_evaluation_without(self, field):
        report = evaluation()
        del report[field]
        assert not VALIDATOR.is_valid(report)

    @pytest.mark.parametrize("name", ["control", "undefended", "pruned", "fine_tuned", "fine_pruned"])
    def test_refuses_an_evaluation_without_the_model(self, name):
        report = evaluation()
        del report["models"][name]
        assert not VALIDATOR.is_valid(report)

    @pytest.mark.parametrize(
        ("where", "value"),
        [
            (("schema",), 2),
            (("stage",), "evaluation"),
            (("seconds",), -1),
            (("seconds",), None),
            (("inputs", "dataset"), "cd" * 31),
            (("numbers", "accuracy"), "high"),
            (("numbers", "accuracy"), None),
            (("series", "loss"), [[1, 2, 3]]),
            (("warnings",), "one"),
            (("models", "control", "digest"), "AB" * 32),
            (("models", "control", "clean_accuracy"), None),
            (("models", "control", "clean_accuracy", "value"), None),
            (("models", "control", "clean_accuracy", "low"), -0.1),
            (("models", "control", "clean_accuracy", "high"), 1.1),
            (("models", "control", "backdoor_success", "value"), -0.1),
            (("models", "control", "utility", "low"), -1.1),
            (("models", "control", "utility", "n"), 0),
            (("models", "control", "utility", "n"), 12.5),
            (("attack_took", "took"), "yes"),
            (("outcomes", "eligible"), ""),
            (("outcomes", "groups"), [0, 1, 1]),
            (("outcomes", "models", "fine_pruned", "right"), "112"),
            (("outcomes", "models", "fine_pruned"), None),
            (("pruning_gain", "high"), 2.1),
            (("by_class", "clean_accuracy", 0, "fine_pruned"), None),
            (("by_class", "clean_accuracy", 0, "fine_pruned", "high"), 1.1),
            (("by_class", "utility"), []),
            (("pruning", "curve", "robust accuracy"), [1.1]),
            (("activations", "triggered"), [None]),
            (("checks",), []),
            (("checks", 0, "passed"), 1),
            (("dataset", "dvc_md5"), "d41d"),
        ],
    )
    def test_refuses(self, where, value):
        report = copy.deepcopy(evaluation())
        place = report
        for key in where[:-1]:
            place = place[key]
        place[where[-1]] = value
        assert not VALIDATOR.is_valid(report)
