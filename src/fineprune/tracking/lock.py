"""A mutex between promoters of one registered model, on any store that makes a name only once.

It knows nothing of MLflow: what it needs of a store is the three methods of :class:`LockStore`.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Protocol

from fineprune.errors import TrackingError

LOCK_SUFFIX = ".promotion-lock"
UNSIGNED = "unknown"
"""The owner of what no promoter made, such as a model that somebody gave a lock's name: it is left alone."""
_POLL = 0.2  # seconds
_QUIET = 5.0  # seconds of waiting before a word of it


@dataclass(frozen=True)
class Holder:
    """Who made an entry, and how many seconds ago."""

    owner: str
    age: float


class LockStore(Protocol):
    """Where locks are kept; every method raises :class:`TrackingError` when the store is gone."""

    def make(self, name: str, owner: str) -> bool:
        """Make an entry in one step; False if there is one of that name."""
        ...

    def holder(self, name: str) -> Holder | None:
        """Who made the entry; None if there is none."""
        ...

    def delete(self, name: str) -> None:
        """Delete the entry; nothing happens if there is none."""
        ...


class PromotionLock:
    """A context manager that one promoter of a registered model at a time can be inside of.

    To hold it is to have made the entry ``<name>.promotion-lock``. One that is older than ``stale``
    belongs to a dead promoter and is taken over. Only who makes the marker named after that owner may
    delete it, so that of two that take over none deletes the other's new lock; and an owner that is
    merely slow finds out in :meth:`check` before it writes. A marker is an entry like any other: when
    who made it died too, it is taken over in the same way. Between a :meth:`check` and a takeover lies
    ``stale / 2``, within which the write must be over and clocks may differ. With ``kept`` it is not given
    back at the end, so that it goes stale first.

    Args:
        store: where the entries are kept.
        name: of the registered model.
        wait: seconds to wait for the lock; more than ``stale``, so that a dead owner cannot block.
        stale: seconds after which an owner is taken for dead; its work takes about one.

    Raises:
        TrackingError: on entering, another promoter holds the lock for too long.
    """

    def __init__(self, store: LockStore, name: str, *, wait: float = 180, stale: float = 120) -> None:
        self._store = store
        self._name = f"{name}{LOCK_SUFFIX}"
        self._wait, self._stale = wait, stale
        self._owner = f"{socket.gethostname()} pid {os.getpid()} {uuid.uuid4().hex}"
        self._since = 0.0
        self.kept = False

    def __enter__(self) -> PromotionLock:
        deadline, quiet = time.monotonic() + self._wait, time.monotonic() + _QUIET
        while not self._make(self._name):
            holder = self._store.holder(self._name)
            if holder and time.monotonic() > quiet:
                quiet = math.inf
                text = f"waiting for {self._name}, held by {holder.owner}, for {self._wait:.0f} s at most"
                print(text, file=sys.stderr)
            if holder and self._dead(holder):
                self._take_over(self._name, holder.owner)
            if time.monotonic() > deadline:
                text = "cannot be made, though nobody is seen to hold it"
                if holder:
                    held = f"held by {holder.owner} for {holder.age:.0f} s"
                    text = f"{held}; if that promoter is dead, delete it"
                raise TrackingError(f"registered model {self._name}: {text}")
            time.sleep(_POLL)
        return self

    def __exit__(self, *_: object) -> None:
        # A lock that cannot be given back goes stale; the promotion itself has succeeded or failed already.
        if not self.kept:
            with contextlib.suppress(TrackingError):
                self._delete(self._name, self._owner)

    def check(self) -> None:
        """Raise :class:`TrackingError` if the lock may be taken over soon, or has been, or was deleted."""
        holder = self._store.holder(self._name)
        if not self._fresh():  # last, since the store may take its time
            found = "held for too long"
        elif holder is None:
            found = "was deleted"
        elif holder.owner != self._owner:
            found = f"is held by {holder.owner}"
        else:
            return
        raise TrackingError(f"registered model {self._name}: {found}, nothing was promoted; run again")

    def _make(self, name: str) -> bool:
        """Make an entry of one's own; False if it is another's."""
        self._since = time.monotonic()
        if self._store.make(name, self._owner):
            return True
        # A request that is repeated after a lost answer finds its own first try: not made, but ours.
        holder = self._store.holder(name)
        return holder is not None and holder.owner == self._owner

    def _dead(self, holder: Holder) -> bool:
        return holder.age > self._stale and holder.owner != UNSIGNED

    def _fresh(self) -> bool:
        """Whether what was made last is too young for anyone to take it over."""
        return time.monotonic() - self._since <= self._stale / 2

    def _delete(self, name: str, owner: str) -> None:
        """Delete the owner's entry, unless that right may have passed to somebody else by now."""
        holder = self._store.holder(name)
        if holder and holder.owner == owner and self._fresh():
            self._store.delete(name)

    def _take_over(self, name: str, owner: str) -> None:
        """Delete a dead owner's entry, if nobody else is about to."""
        marker = f"{self._name}.{owner.split()[-1]}"
        if self._make(marker):
            try:
                self._delete(name, owner)
            finally:
                self._delete(marker, self._owner)
            return
        other = self._store.holder(marker)
        if other and self._dead(other) and marker != name:  # an owner whose id names itself leads nowhere
            self._take_over(marker, other.owner)
