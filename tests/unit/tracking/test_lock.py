"""One promoter at a time, whoever dies, on a store that makes a name once and nothing more."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fineprune.errors import TrackingError
from fineprune.tracking.lock import UNSIGNED, Holder, PromotionLock

LOCK = "net.promotion-lock"


class Entries:
    """Entries in memory, whose age may be set back; each call takes a moment, as a server's does."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[str, float]] = {}
        self._one = threading.Lock()

    def make(self, name: str, owner: str, *, age: float = 0.0) -> bool:
        time.sleep(0.001)
        with self._one:
            if name in self.made:
                return False
            self.made[name] = owner, time.monotonic() - age
            return True

    def holder(self, name: str) -> Holder | None:
        time.sleep(0.001)
        with self._one:
            found = self.made.get(name)
        return Holder(found[0], time.monotonic() - found[1]) if found else None

    def delete(self, name: str) -> None:
        time.sleep(0.001)
        with self._one:
            self.made.pop(name, None)


class Interrupted(Entries):
    """Entries of a store that does something else just before it deletes one of this name."""

    def __init__(self, name: str, act: Callable[[Entries], None]) -> None:
        super().__init__()
        self._name, self._act = name, act

    def delete(self, name: str) -> None:
        if name == self._name:
            self._act(self)
        super().delete(name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fineprune.tracking.lock._POLL", 0.005)


def most_inside(store: Entries, promoters: int, *, stale: float = 60.0) -> int:
    """How many were inside at once, at most."""
    inside, most, counting = 0, 0, threading.Lock()

    def hold(_: int) -> None:
        nonlocal inside, most
        with PromotionLock(store, "net", stale=stale, wait=30):
            with counting:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with counting:
                inside -= 1

    with ThreadPoolExecutor(promoters) as pool:
        list(pool.map(hold, range(promoters)))
    return most


def test_a_lock_that_nobody_is_seen_to_hold_is_not_waited_for_longer() -> None:
    class Refusing(Entries):
        def make(self, name: str, owner: str, *, age: float = 0.0) -> bool:
            return False

    with (
        pytest.raises(TrackingError, match="nobody is seen to hold it"),
        PromotionLock(Refusing(), "net", wait=0.05),
    ):
        pass


def test_one_promoter_at_a_time() -> None:
    store = Entries()
    assert most_inside(store, 8) == 1
    assert not store.made


def test_promoters_of_other_models_do_not_wait() -> None:
    store = Entries()
    with PromotionLock(store, "net"), PromotionLock(store, "other", wait=0):
        assert sorted(store.made) == [LOCK, "other.promotion-lock"]


def test_a_held_lock_is_waited_for_and_named() -> None:
    store = Entries()
    with PromotionLock(store, "net") as holder:
        with (
            pytest.raises(TrackingError, match=r"net\.promotion-lock: held by .* pid \d+ \w{32} for 0 s"),
            PromotionLock(store, "net", wait=0.02),
        ):
            pass
        assert store.made[LOCK][0] == holder._owner
    assert not store.made


def test_who_waits_for_long_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Entries()
    store.make(LOCK, "host pid 1 other")
    for quiet, words in ((10.0, 0), (0.02, 1)):
        monkeypatch.setattr("fineprune.tracking.lock._QUIET", quiet)
        with pytest.raises(TrackingError), PromotionLock(store, "net", wait=0.1):
            pass
        assert capsys.readouterr().err.count("waiting for net.promotion-lock, held by host pid 1") == words


def test_the_lock_is_given_back_when_the_promotion_fails() -> None:
    store = Entries()
    with pytest.raises(ZeroDivisionError), PromotionLock(store, "net"):
        raise ZeroDivisionError
    assert not store.made


def test_a_lock_that_is_kept_is_not_given_back() -> None:
    store = Entries()
    with PromotionLock(store, "net") as lock:
        lock.kept = True
    assert list(store.made) == [LOCK]


def test_a_dead_promoters_lock_is_taken_over_by_one_at_a_time() -> None:
    store = Entries()
    store.make(LOCK, "host pid 1 dead", age=100)
    assert most_inside(store, 8) == 1
    assert not store.made


def test_a_living_promoters_lock_is_not_taken_over() -> None:
    store = Entries()
    store.make(LOCK, "host pid 1 alive", age=50)
    with (
        pytest.raises(TrackingError, match="pid 1 alive for 50 s"),
        PromotionLock(store, "net", wait=0.02),
    ):
        pass
    assert list(store.made) == [LOCK]


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_takeover_that_died_is_taken_over_itself(deaths: int) -> None:
    store = Entries()
    store.make(LOCK, "host pid 0 dead0", age=100)
    for death in range(deaths):
        store.make(f"{LOCK}.dead{death}", f"host pid {death + 1} dead{death + 1}", age=90)
    assert most_inside(store, 8) == 1
    assert not store.made


def test_an_owner_whose_id_names_itself_is_left_to_a_person() -> None:
    store = Entries()
    for name in (LOCK, f"{LOCK}.dead"):
        store.make(name, "host pid 0 dead", age=1000)
    with pytest.raises(TrackingError, match="pid 0 dead for"), PromotionLock(store, "net", wait=0.02):
        pass


def test_one_waits_for_longer_than_a_dead_owner_can_block() -> None:
    lock = PromotionLock(Entries(), "net")
    assert lock._wait > lock._stale


def test_entries_that_nobody_signed_are_named_and_left_to_a_person() -> None:
    store = Entries()
    for name in (LOCK, f"{LOCK}.unknown"):
        store.make(name, "unknown", age=1000)
    with pytest.raises(TrackingError, match="held by unknown"), PromotionLock(store, "net", wait=0.02):
        pass
    assert list(store.made) == [LOCK, f"{LOCK}.unknown"]


def test_an_entry_that_nobody_signed_is_left_alone() -> None:
    store = Entries()
    store.make(LOCK, UNSIGNED, age=1000)
    with pytest.raises(TrackingError, match="held by unknown"), PromotionLock(store, "net", wait=0.02):
        pass
    assert list(store.made) == [LOCK]


def test_a_takeover_that_is_going_on_is_left_alone() -> None:
    store = Entries()
    store.make(LOCK, "host pid 0 dead", age=100)
    store.make(f"{LOCK}.dead", "host pid 1 busy", age=1)
    with (
        pytest.raises(TrackingError, match="held by host pid 0 dead"),
        PromotionLock(store, "net", stale=60, wait=0.02),
    ):
        pass
    assert sorted(store.made) == [LOCK, f"{LOCK}.dead"]


def test_who_took_over_a_moment_too_late_deletes_nothing() -> None:
    """A promoter looks at a dead lock, sleeps, and finds that another has taken over and holds it."""
    store = Entries()
    store.make(LOCK, "host pid 2 new")
    late = PromotionLock(store, "net")
    late._take_over(LOCK, "host pid 0 dead")
    assert store.made[LOCK][0] == "host pid 2 new"
    assert list(store.made) == [LOCK]


def test_a_slow_promoter_finds_out() -> None:
    with PromotionLock(Entries(), "net", stale=60) as lock:
        lock.check()
        lock._since -= 60
        with pytest.raises(TrackingError, match="nothing was promoted"):
            lock.check()


def test_half_the_time_until_a_takeover_is_left_to_the_write() -> None:
    with PromotionLock(Entries(), "net", stale=60) as lock:
        lock._since -= 25
        lock.check()
        lock._since -= 10
        with pytest.raises(TrackingError, match="held for too long, nothing was promoted"):
            lock.check()


def test_a_promoter_whose_store_is_slow_finds_out() -> None:
    class Slow(Entries):
        def holder(self, name: str) -> Holder | None:
            time.sleep(0.1)
            return super().holder(name)

    with (
        PromotionLock(Slow(), "net", stale=0.1) as lock,
        pytest.raises(TrackingError, match="held for too long, nothing was promoted"),
    ):
        lock.check()


def test_a_lock_is_as_old_as_the_request_that_made_it() -> None:
    class Slow(Entries):
        def make(self, name: str, owner: str, *, age: float = 0.0) -> bool:
            made = super().make(name, owner, age=age)
            time.sleep(0.1)
            return made

    with (
        PromotionLock(Slow(), "net", stale=0.1) as lock,
        pytest.raises(TrackingError, match="held for too long, nothing was promoted"),
    ):
        lock.check()


def test_a_promoter_whose_lock_was_deleted_or_taken_over_finds_out() -> None:
    store = Entries()
    with PromotionLock(store, "net") as lock:
        store.delete(LOCK)
        with pytest.raises(TrackingError, match="was deleted, nothing was promoted"):
            lock.check()
        store.make(LOCK, "host pid 2 other")
        with pytest.raises(TrackingError, match="is held by host pid 2 other, nothing was promoted"):
            lock.check()
    assert store.made[LOCK][0] == "host pid 2 other"


def test_a_slow_promoter_does_not_delete_what_may_be_anothers() -> None:
    """Between its look at the lock and the deletion, another may take the lock over."""
    store = Entries()
    with PromotionLock(store, "net", stale=0.02):
        time.sleep(0.02)
    assert list(store.made) == [LOCK]
    with PromotionLock(store, "net", stale=0.02, wait=5):
        pass


def test_a_lock_whose_first_answer_was_lost_is_ours() -> None:
    store = Entries()
    lock = PromotionLock(store, "net", wait=0)
    store.make(LOCK, lock._owner)
    with lock:
        pass
    assert not store.made


def test_a_store_that_is_gone_at_the_end_does_not_undo_the_promotion() -> None:
    def gone(_: Entries) -> None:
        raise TrackingError("MLflow: gone")

    with PromotionLock(Interrupted(LOCK, gone), "net"):
        pass
