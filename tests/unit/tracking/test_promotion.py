"""Promoters that race for the champion's alias."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import pytest

from fineprune.errors import TrackingError
from fineprune.tracking.lock import PromotionLock
from fineprune.tracking.promotion import CANDIDATE, CHAMPION, LockEntries, Promotion
from fineprune.tracking.store import connect
from fineprune.tracking.tracker import Tracker
from tests.unit.tracking.registry import aliases, candidates, promote_if_better


def test_a_new_champion_is_no_candidate_any_more(tracker: Tracker, client: Any) -> None:
    low, high = candidates(client, 0.8, 0.9)
    promote_if_better(tracker, high, 0.9)
    promote_if_better(tracker, low, 0.8)
    assert aliases(client) == {CHAMPION: high, CANDIDATE: low}
    with tracker.promotion("net", high) as promotion:
        promotion.settle(CHAMPION, {}, "")
    assert aliases(client) == {CHAMPION: high, CANDIDATE: low}
    with tracker.promotion("net", low) as promotion:
        assert promotion.champion is not None
        assert (promotion.champion.number, promotion.champion.tags["utility.low"]) == (high, "0.9")
        promotion.settle(CHAMPION, {}, "")
    assert aliases(client) == {CHAMPION: low}
    assert [model.name for model in client.search_registered_models()] == ["net"]


def test_what_the_gate_says_is_written_as_far_as_mlflow_takes_it(tracker: Tracker, client: Any) -> None:
    (version,) = candidates(client, 0.9)
    client.update_model_version("net", version, "somebody's words")
    with tracker.promotion("net", version) as promotion:
        promotion.settle(CANDIDATE, {"utility.low": "0.5", "reasons": "x" * 6000}, None)
    found = client.get_model_version("net", version)
    assert found.description == "somebody's words"
    assert found.tags["utility.low"] == "0.5"  # it was judged again
    assert len(found.tags["reasons"]) == 5000
    with tracker.promotion("net", version) as promotion:
        promotion.settle(CANDIDATE, {}, "y" * 6000)
    assert len(client.get_model_version("net", version).description) == 5000


def test_of_racing_threads_the_best_ends_as_champion(tracker: Tracker, client: Any) -> None:
    lows = (0.5, 0.9, 0.7, 0.6, 0.8)
    versions = candidates(client, *lows)
    with ThreadPoolExecutor(len(lows)) as pool:
        list(pool.map(lambda pair: promote_if_better(tracker, *pair, 0.02), zip(versions, lows, strict=True)))
    assert aliases(client)[CHAMPION] == versions[1]


@pytest.mark.parametrize("before", [None, "3"])
def test_a_champion_that_a_person_chose_meanwhile_stays(
    tracker: Tracker, client: Any, before: str | None
) -> None:
    ours, theirs, _ = candidates(client, 0.9, 0.95, 0.5)
    if before:
        client.set_registered_model_alias("net", CHAMPION, before)
    with tracker.promotion("net", ours) as promotion:
        client.set_registered_model_alias("net", CHAMPION, theirs)
        message = rf"expected version {before} as champion, .* found 2: nothing"
        with pytest.raises(TrackingError, match=message):
            promotion.settle(CHAMPION, {}, "")
    assert aliases(client) == {CHAMPION: theirs}


def test_the_alias_is_not_asked_for_until_another_may_have_the_lock(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (version,) = candidates(client, 0.9)
    seconds = []

    def given(*_: Any) -> None:
        tries, patience = (
            int(os.environ[f"MLFLOW_HTTP_REQUEST_{name}"]) for name in ("MAX_RETRIES", "TIMEOUT")
        )
        seconds.append((tries + 1) * patience)

    with tracker.promotion("net", version) as promotion:
        monkeypatch.setattr(tracker._client, "set_registered_model_alias", given)
        promotion.settle(CHAMPION, {}, "")
        takeover = promotion.lock._stale
    assert seconds
    assert seconds[0] < takeover / 2
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"


def race(uri: str, version: str, low: float, start: Any) -> None:
    # Spelt otherwise, the address gets a connection of its own: SQLite's may not cross a fork.
    tracker = connect(uri.replace("/mlflow.db", "/./mlflow.db"), "fineprune")
    start.wait(30)
    promote_if_better(tracker, version, low, 0.1)


def test_of_racing_processes_the_better_ends_as_champion(tracker: Tracker, client: Any) -> None:
    lows = (0.95, 0.85)
    fork = multiprocessing.get_context("fork")  # to import MLflow anew takes ten seconds each
    start = fork.Barrier(len(lows))
    racers = [
        fork.Process(target=race, args=(tracker.uri, version, low, start))
        for version, low in zip(candidates(client, *lows), lows, strict=True)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert aliases(client)[CHAMPION] == "1"


def test_a_lock_that_was_given_back_while_mlflow_looked_for_it_is_tried_for_again() -> None:
    class Hasty:
        def create_registered_model(self, name: str, tags: dict[str, str]) -> None:
            raise mlflow.exceptions.RestException(
                {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"{name} not found"}
            )

    assert not LockEntries(Hasty()).make("net.promotion-lock", "me")


def test_a_lock_is_a_registered_model_with_its_owner(client: Any) -> None:
    entries = LockEntries(client)
    with PromotionLock(entries, "net") as lock:
        with (
            pytest.raises(TrackingError, match=r"net\.promotion-lock: held by .* pid \d+"),
            PromotionLock(entries, "net", wait=0.1),
        ):
            pass
        assert client.get_registered_model("net.promotion-lock").tags["owner"] == lock._owner
        assert not entries.make("net.promotion-lock", "me")
        holder = entries.holder("net.promotion-lock")
        assert holder is not None
        assert holder.owner == lock._owner
        assert 0 <= holder.age < 30
    assert not client.search_registered_models()
    assert entries.holder("net.promotion-lock") is None
    entries.delete("net.promotion-lock")


def test_a_model_in_the_place_of_a_lock_is_left_alone(client: Any) -> None:
    client.create_registered_model("net.promotion-lock")
    lock = PromotionLock(LockEntries(client), "net", stale=-1.0, wait=0.0)
    with pytest.raises(TrackingError, match=r"net\.promotion-lock: held by unknown"), lock:
        pass
    assert [model.name for model in client.search_registered_models()] == ["net.promotion-lock"]


def test_a_dead_promoters_lock_is_taken_over(client: Any) -> None:
    entries = LockEntries(client)
    assert entries.make("net.promotion-lock", "host pid 1 first")
    assert entries.make("net.promotion-lock.first", "host pid 2 second")  # died while taking over
    with PromotionLock(entries, "net", stale=3.0, wait=60):
        pass
    assert not client.search_registered_models()


def test_a_slow_promoter_does_not_write(tracker: Tracker, client: Any) -> None:
    (version,) = candidates(client, 0.9)
    with tracker.promotion("net", version, stale=60) as promotion:
        promotion.lock._since -= 60
        with pytest.raises(TrackingError, match="nothing was promoted"):
            promotion.settle(CHAMPION, {"verdict": "promoted"}, "is now champion")
    assert not aliases(client)
    untouched = client.get_model_version("net", version)
    assert "verdict" not in untouched.tags
    assert not untouched.description


def test_a_promoter_that_became_slow_behind_its_first_look_does_not_move_the_alias(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (version,) = candidates(client, 0.9)
    with tracker.promotion("net", version) as promotion:
        monkeypatch.setattr(Promotion, "_check_champion", lambda self: setattr(self.lock, "_since", -1e9))
        with pytest.raises(TrackingError, match="held for too long, nothing was promoted"):
            promotion.settle(CHAMPION, {"verdict": "promoted"}, "is now champion")
    assert client.get_model_version("net", version).tags["verdict"] == "promoted"  # it had begun to write
    assert not aliases(client)


class Lost:
    """A server that does not say what came of a request for an alias."""

    def __init__(self, client: Any, *, carried_out: bool, error: Exception) -> None:
        self._give, self._carried_out, self._error = client.set_registered_model_alias, carried_out, error

    def __call__(self, *given: Any) -> None:
        if self._carried_out:
            self._give(*given)
        raise self._error


GONE = (mlflow.MlflowException("HTTP 500", error_code=1), ConnectionError("reset by peer"))


@pytest.mark.parametrize("error", GONE)
def test_an_alias_that_was_given_without_an_answer_is_given(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (version,) = candidates(client, 0.9)
    with tracker.promotion("net", version) as promotion:
        monkeypatch.setattr(
            tracker._client, "set_registered_model_alias", Lost(client, carried_out=True, error=error)
        )
        promotion.settle(CHAMPION, {}, "")
    assert aliases(client) == {CHAMPION: version}
    assert [model.name for model in client.search_registered_models()] == ["net"]


@pytest.mark.parametrize("error", GONE)
def test_nobody_is_let_in_while_an_alias_may_yet_be_given(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (version,) = candidates(client, 0.9)
    lost = Lost(client, carried_out=False, error=error)
    monkeypatch.setattr(tracker._client, "set_registered_model_alias", lost)
    with pytest.raises(TrackingError), tracker.promotion("net", version) as promotion:
        promotion.settle(CHAMPION, {}, "")
    names = {model.name for model in client.search_registered_models()}
    assert names == {"net", "net.promotion-lock"}


def test_a_refused_alias_keeps_nobody_waiting(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (version,) = candidates(client, 0.9)
    refusal = mlflow.MlflowException.invalid_parameter_value("no such alias")
    lost = Lost(client, carried_out=False, error=refusal)
    monkeypatch.setattr(tracker._client, "set_registered_model_alias", lost)
    with pytest.raises(TrackingError, match="no such alias"), tracker.promotion("net", version) as promotion:
        promotion.settle(CHAMPION, {}, "")
    assert [model.name for model in client.search_registered_models()] == ["net"]


def test_a_candidate_that_stays_behind_does_not_undo_a_promotion(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (version,) = candidates(client, 0.9)
    client.set_registered_model_alias("net", CANDIDATE, version)
    with tracker.promotion("net", version) as promotion:
        lost = Lost(client, carried_out=False, error=ConnectionError("reset by peer"))
        monkeypatch.setattr(tracker._client, "delete_registered_model_alias", lost)
        promotion.settle(CHAMPION, {}, "")
    assert aliases(client) == {CHAMPION: version, CANDIDATE: version}
