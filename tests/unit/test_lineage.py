"""Reports become records, whole or with one line that says what is wrong with which file."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from fineprune.digests import sha256
from fineprune.errors import DataError, without_credentials
from fineprune.lineage import (
    StageRecord,
    as_record,
    evaluation_metrics,
    evidence_tags,
    flatten,
    protocol,
    provenance,
    read_report,
)
from fineprune.stages.base import REPORT, content_digest

GOOD = {
    "schema": 1,
    "config": {"seed": 7, "trigger": {"size": 3, "places": [1, 2]}, "note": None},
    "seconds": 1.5,
    "peak_memory_bytes": 1000,
    "numbers": {"accuracy": 0.9},
    "series": {"loss": [[0, 2.0], [1, 1]], "empty": []},
    "warnings": ["look", "again"],
}


def folder(path: Path, **changes: Any) -> Path:
    (path / REPORT).write_text(json.dumps(GOOD | changes))
    return path


def read_record(stage: str, folder: Path) -> StageRecord:
    return as_record(stage, folder, read_report(folder))


def test_a_report_becomes_a_record(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("figures/curve.png", "page.html", "weights.bin"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "notes.md").symlink_to(tmp_path.parent / "elsewhere.md")
    (tmp_path.parent / "elsewhere.md").write_text("of somebody else")
    record = read_record("prune", folder(tmp_path))
    assert record.name == "prune"
    assert record.key == f"prune:{content_digest(tmp_path)}"
    assert record.params == {"seed": "7", "trigger.size": "3", "trigger.places": "[1, 2]", "note": "null"}
    assert record.metrics == {"accuracy": 0.9, "seconds": 1.5, "peak_memory_bytes": 1000}
    assert record.series == {"loss": [(0, 2.0), (1, 1)], "empty": []}
    assert record.tags == {"report": sha256(tmp_path / REPORT), "warnings": "look\nagain"}
    assert list(record.files) == ["figures/curve.png", "page.html", REPORT]


def test_what_dvc_links_into_its_cache_is_shown_too(tmp_path: Path) -> None:
    report = folder(tmp_path) / REPORT
    for content, name in ((report, "report.json"), (None, "page.html")):
        text = content.read_bytes() if content else b"of another"
        md5 = hashlib.md5(report.read_bytes(), usedforsecurity=False).hexdigest()
        cached = tmp_path.parent / "cache" / f"{name}/files/md5" / md5[:2] / md5[2:]
        cached.parent.mkdir(parents=True)
        cached.write_bytes(text)
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(cached)
    assert list(read_record("prune", tmp_path).files) == [REPORT]


def test_a_number_does_not_become_a_point_of_the_series_of_its_name(tmp_path: Path) -> None:
    record = read_record("finetune", folder(tmp_path, numbers={"loss": 0.5}))
    assert record.metrics["loss"] == 0.5
    assert list(record.series) == ["loss by step", "empty"]


def test_what_a_stage_cost_is_no_number_of_its_own(tmp_path: Path) -> None:
    assert read_record("prune", folder(tmp_path, numbers={"seconds": 9.0})).metrics["seconds"] == 1.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected a stage's report, found list"),
        ("{}", "schema: expected 1, found None"),
        ('{"schema": 2}', "schema: expected 1, found 2"),
    ],
)
def test_what_is_no_report_of_this_schema_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / REPORT).write_text(text)
    with pytest.raises(DataError, match=f"{REPORT}: {message}"):
        read_report(tmp_path)


def test_what_a_report_does_not_say_is_empty(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text('{"schema": 1}')
    record = read_record("prune", tmp_path)
    assert (record.params, record.metrics, record.series, record.tags["warnings"]) == ({}, {}, {}, "")


MALFORMED = {
    "config a list": ({"config": [1]}, "config: expected a mapping, found [1]"),
    "config null": ({"config": None}, "config: expected a mapping, found None"),
    "numbers a text": ({"numbers": "many"}, "numbers: expected a mapping, found 'many'"),
    "a number null": ({"numbers": {"a": None}}, "numbers.a: expected a finite number, found None"),
    "a number a bool": ({"numbers": {"a": True}}, "numbers.a: expected a finite number, found True"),
    "a number NaN": ({"numbers": {"a": math.nan}}, "numbers.a: expected a finite number, found nan"),
    "a number huge": ({"numbers": {"a": 10**400}}, "numbers.a: expected a finite number, found 1000"),
    "seconds a text": ({"seconds": "1"}, "seconds: expected a finite number, found '1'"),
    "series a list": ({"series": [[0, 1]]}, "series: expected a mapping, found [[0, 1]]"),
    "a line a number": ({"series": {"a": 3}}, "series.a: expected a list of [step, value], found 3"),
    "a line a mapping": (
        {"series": {"a": {"0": 1}}},
        "series.a: expected a list of [step, value], found {",
    ),
    "a point a number": ({"series": {"a": [3]}}, "series.a[0]: expected [step, value], found 3"),
    "a point a text": ({"series": {"a": ["01"]}}, "series.a[0]: expected [step, value], found '01'"),
    "a point too short": ({"series": {"a": [[0, 1], [1]]}}, "series.a[1]: expected [step, value], found [1]"),
    "a point too long": (
        {"series": {"a": [[0, 1, 2]]}},
        "series.a[0]: expected [step, value], found [0, 1, 2]",
    ),
    "a step a text": ({"series": {"a": [["x", 1]]}}, "series.a[0]: expected a finite number, found 'x'"),
    "half a step": ({"series": {"a": [[0.5, 1]]}}, "series.a[0]: expected a whole step, found [0.5, 1]"),
    "a value infinite": (
        {"series": {"a": [[0, math.inf]]}},
        "series.a[0]: expected a finite number",
    ),
    "warnings a text": ({"warnings": "beware"}, "warnings: expected a list, found 'beware'"),
}


@pytest.mark.parametrize(("changes", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_field_is_one_line_that_names_the_file(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_record("prune", folder(tmp_path, **changes))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / REPORT}: {message}")
    assert "\n" not in said
    assert len(said) < len(str(tmp_path)) + 150


def test_whole_steps_may_be_floats(tmp_path: Path) -> None:
    ((step, _),) = read_record("prune", folder(tmp_path, series={"a": [[2.0, 0.5]]})).series["a"]
    assert (step, type(step)) == (2, int)


def test_params_are_flattened() -> None:
    assert dict(flatten({"a": {"b": {"c": 1.0}, "d": "x"}, "e": [{}], "f": True})) == {
        "a.b.c": "1.0",
        "a.d": "x",
        "e": "[{}]",
        "f": "true",
    }


ROW = {"utility": {"value": 0.9, "low": 0.85, "high": 0.94, "n": 500}, "digest": "abc"}


def test_a_figure_of_zero_is_one() -> None:
    assert dict(evaluation_metrics({"models": {"pruned": {"utility": {"value": 0.0, "low": -0.1}}}})) == {
        "pruned.utility": 0.0,
        "pruned.utility.low": -0.1,
    }


def test_figures_become_metrics() -> None:
    assert list(evaluation_metrics({"models": {"pruned": ROW}})) == [
        ("pruned.utility", 0.9),
        ("pruned.utility.low", 0.85),
        ("pruned.utility.high", 0.94),
        ("pruned.utility.n", 500),
    ]


@pytest.mark.parametrize(
    "models",
    [
        None,
        [ROW],
        {"pruned": 1},
        {"pruned": {"utility": 0.9}},
        {"pruned": {"utility": {"value": "0.9", "low": math.nan, "high": True, "n": 10**400}}},
    ],
)
def test_what_is_no_figure_is_left_out(models: Any) -> None:
    assert not list(evaluation_metrics({"models": models}))


def test_evidence_becomes_tags() -> None:
    tags = evidence_tags(
        {"models": {"pruned": ROW, "pruned_twice": {"utility": {"value": 1.0}}}},
        model="pruned",
        thresholds={"min_utility": 0.8},
        configs={"prune": {"b": 1, "a": 2}, "ingest": None},
    )
    assert tags == {
        "utility": "0.9",
        "utility.low": "0.85",
        "utility.high": "0.94",
        "utility.n": "500",
        "threshold.min_utility": "0.8",
        "params.prune": '{"a": 2, "b": 1}',
        "params.ingest": "null",
    }


def test_provenance_is_that_of_the_code_that_trained_the_model() -> None:
    evaluation = {"case": "digits", "attack": "baseline", "seed": 0, "dataset": {"dvc_md5": "d41d.dir"}}
    code = {"git.commit": "c0ffee", "git.dirty": "false"}
    assert provenance(evaluation, {"version": "0.2", "revision": code}) == code | {
        "case": "digits",
        "attack": "baseline",
        "seed": "0",
        "dataset.dvc_md5": "d41d.dir",
        "fineprune.version": "0.2",
    }


def test_provenance_leaves_out_what_is_not_known() -> None:
    tags = provenance({"case": "digits", "dataset": {"dvc_md5": None}}, {"version": "0.2"})
    assert tags == {"case": "digits", "fineprune.version": "0.2"}


def test_a_protocol_is_the_data_the_trigger_and_what_is_wanted_of_it() -> None:
    details = {
        "trigger": {"kind": "overlay", "image": "t.png"},
        "trigger_sha256": {"add.npy": "a"},
        "labels": {"kind": "shift"},
        "poison": {"rate": 0.1, "sources": [1]},
    }
    report = {"dataset": {"digest": "d"}, "attack_details": details}
    first = protocol(report, data="d")
    assert first == protocol({"attack_details": details, "seed": 3, "models": {}}, data="d")
    changes = (
        {"trigger": {"kind": "overlay", "image": "u.png"}},
        {"trigger_sha256": {"add.npy": "b"}},  # another picture under the same name
        {"labels": {"kind": "random_wrong"}},
        {"poison": {"rate": 0.1, "sources": [2]}},
    )
    others = {protocol(report | {"attack_details": details | change}, data="d") for change in changes}
    assert len({first, protocol(report, data="e"), *others}) == 6
    rarer = report | {"attack_details": details | {"poison": {"rate": 0.2, "sources": [1]}}}
    assert protocol(rarer, data="d") == first


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("https://me:pa@ss@host:1/a", "https://host:1/a"),
        ("postgresql://me@host/db", "postgresql://host/db"),
        ("postgresql://h/db?user=me&password=x&a=1", "postgresql://h/db?user=me&password=…&a=1"),
        ("http://h/p?X-Amz-Security-Token=abc", "http://h/p?X-Amz-Security-Token=…"),
        ("at http://a:b@c/ and http://d:e@f/", "at http://c/ and http://f/"),
        ("postgresql://me:pa/ss@db/x", "postgresql://db/x"),
        ("https://h:8443/repo@v1:data", "https://h:8443/repo@v1:data"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_credentials_are_not_shown(text: str, safe: str) -> None:
    assert without_credentials(text) == safe
