"""The moment of decision: who is champion, and who shall be.

The registry's aliases are last-writer-wins: of two promoters that both saw an old champion, the worse
may write last. A promotion therefore holds a lock from reading the champion to moving the alias. The
lock is the one thing that MLflow makes atomically on every backend: a registered model's name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException

from fineprune.environment import environment
from fineprune.errors import TrackingError, shortened
from fineprune.tracking.answers import EXISTS, MISSING, TAG_LENGTH, is_gone, unless
from fineprune.tracking.lock import UNSIGNED, Holder, PromotionLock

CHAMPION, CANDIDATE = "champion", "candidate"


@dataclass(frozen=True)
class Version:
    """A registered version: its number, its tags, and the run of the pipeline that made it."""

    number: str
    tags: Mapping[str, str]
    run_id: str | None


# The alias is asked for once and briefly: a request that is repeated for minutes could reach the server after
# another promoter took the lock over, and put the worse version back.
_ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@dataclass(frozen=True)
class Promotion:
    """The moment of decision: the champion cannot change while this is open.

    Attributes:
        client: MLflow's.
        name: of the registered model.
        version: the challenger.
        champion: None if there is none.
        lock: of the model's aliases, held.
    """

    client: Any
    name: str
    version: str
    champion: Version | None
    lock: PromotionLock

    def settle(self, alias: str, tags: Mapping[str, str], description: str | None) -> None:
        """Write the verdict's tags and description (Markdown; None leaves what is there), then give the
        alias; a new champion is no candidate any more.

        Raises:
            TrackingError: the lock was held for too long, at the beginning or before the alias; or somebody
                who knows nothing of it has moved the champion's. Who is champion is what the alias says; a
                tag that runs ahead of it is mended by the next run.
        """
        self.lock.check()
        tag_version(self.client, self.name, self.version, tags)
        if description is not None:
            self.client.update_model_version(self.name, self.version, shortened(description, TAG_LENGTH))
        self._check_champion()
        self.lock.check()  # last: the alias must follow at once
        self._give(alias)
        if alias == CHAMPION:
            # A candidate that stays behind is no reason to fail now, and the next run's work.
            with contextlib.suppress(MlflowException, OSError):
                aliases = self.client.get_registered_model(self.name).aliases
                if str(aliases.get(CANDIDATE)) == self.version:
                    self.client.delete_registered_model_alias(self.name, CANDIDATE)

    def _give(self, alias: str) -> None:
        """Give the alias by one request. Where nobody can say what came of it, the lock is not given back: it
        may be carried out yet, behind the back of the next promoter.
        """
        try:
            with environment(**_ONCE):
                self.client.set_registered_model_alias(self.name, alias, self.version)
        except (MlflowException, OSError) as error:
            if not is_gone(error):
                raise
            self.lock.kept = True
            if str(self.client.get_registered_model(self.name).aliases.get(alias)) != self.version:
                raise
            self.lock.kept = False

    def _check_champion(self) -> None:
        """A person in MLflow's pages holds no lock."""
        found = self.client.get_registered_model(self.name).aliases.get(CHAMPION)
        before = self.champion.number if self.champion else None
        if (None if found is None else str(found)) != before:
            moved = f"expected version {before} as champion, as at the start, found {found}"
            raise TrackingError(f"registered model {self.name}: {moved}: nothing was promoted; run again")


def tag_version(client: Any, name: str, version: str, tags: Mapping[str, str]) -> None:
    """Give a registered version the tags that it does not have yet, as far as MLflow takes their text."""
    present = client.get_model_version(name, version).tags
    for key, value in tags.items():
        if present.get(key) != (value := shortened(value, TAG_LENGTH)):
            client.set_model_version_tag(name, version, key, value)


class LockEntries:
    """The entries of a :class:`PromotionLock` as registered models: MLflow makes each name only once."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def make(self, name: str, owner: str) -> bool:
        """Make an entry in one step; False if there is one of that name."""
        # MLflow looks for the entry that stands in the way, and says that there is none if it has just gone.
        refused = (*EXISTS, *MISSING)
        made = unless(refused, lambda: self._client.create_registered_model(name, {"owner": owner}))
        return made is not None

    def holder(self, name: str) -> Holder | None:
        """Who made the entry, by MLflow's clock; None if there is none."""
        entry = unless(MISSING, lambda: self._client.get_registered_model(name))
        age = time.time() - entry.creation_timestamp / 1000 if entry else 0.0
        # One that is deleted while MLflow reads it comes without its tags, as a model that is no entry does.
        return Holder(entry.tags.get("owner", "").strip() or UNSIGNED, age) if entry else None

    def delete(self, name: str) -> None:
        """Delete the entry; nothing happens if there is none."""
        unless(MISSING, lambda: self._client.delete_registered_model(name))
