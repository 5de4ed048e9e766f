"""What the registry says of a Kubeflow run."""

from typing import Any

import pytest

from fineprune.errors import TrackingError
from fineprune.tracking.promotion import tag_version
from fineprune.tracking.tracker import Tracker
from fineprune.tracking.verdict import KUBEFLOW_RUN, Outcome, verdict_of_run
from tests.unit.tracking.registry import candidates


def test_the_verdict_of_a_kubeflow_run(tracker: Tracker, client: Any) -> None:
    first, second, third = candidates(client, 0.9, 0.8, 0.7)
    for version, run, verdict in ((first, "a", "promoted"), (second, "b", "held")):
        tags = {f"{KUBEFLOW_RUN}.{run}": verdict, f"{KUBEFLOW_RUN}.{run}.reasons": "one\ntwo"}
        tag_version(client, "net", version, tags)
    tag_version(client, "net", third, {KUBEFLOW_RUN: "c"})  # registered, but not judged yet
    assert verdict_of_run(tracker.uri, "a") == Outcome("promoted", ("one", "two"), "net", first)
    assert verdict_of_run(tracker.uri, "b") == Outcome("held", ("one", "two"), "net", second)
    assert verdict_of_run(tracker.uri, "c") is None
    assert verdict_of_run(tracker.uri, "d") is None


def test_two_kubeflow_runs_of_one_version_have_a_verdict_each(tracker: Tracker, client: Any) -> None:
    (version,) = candidates(client, 0.9)
    for run, verdict in (("a", "held"), ("b-1", "promoted")):
        told = {f"{KUBEFLOW_RUN}.{run}": verdict, f"{KUBEFLOW_RUN}.{run}.reasons": f"{verdict} it is"}
        tag_version(client, "net", version, told)
    found = [verdict_of_run(tracker.uri, run) for run in ("a", "b-1")]
    told_of = [(outcome.verdict, outcome.reasons) for outcome in found if outcome]
    assert told_of == [("held", ("held it is",)), ("promoted", ("promoted it is",))]


def test_the_verdict_of_a_registry_that_is_not_there() -> None:
    with pytest.raises(TrackingError, match=r"^http://127\.0\.0\.1:1: no answer from MLflow: .*refused$"):
        verdict_of_run("http://me:secret@127.0.0.1:1", "a")
