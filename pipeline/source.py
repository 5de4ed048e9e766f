"""Where a run's data comes from: whether a container can reach it, and what pins it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fineprune.data.dvc_files import MD5
from fineprune.data.dvc_source import PREFIX as DVC
from fineprune.data.sources import EMBEDDED, GENERATED
from fineprune.errors import ConfigError, excerpt, without_credentials

_CLONED = re.compile(r"(https?|git)://")  # what git fetches from another machine without a key
_SSH = re.compile(r"(git\+)?ssh(\+git)?://|[^/]+@[^/]+:")


def check_source(run: Mapping[str, Any]) -> None:
    """Refuse what no run can read, or not as its parameters say.

    Args:
        run: parameters, with a ``source``.

    Raises:
        ConfigError: a container cannot reach the source; it and the generator, the revision or the md5 do not
            go together.
    """
    check_reachable(str(run["source"]))
    _check_generator(run)
    _check_pins(run)


def check_reachable(source: str) -> None:
    """Refuse a source on this machine: a container sees none of its folders.

    Raises:
        ConfigError: it is no embedded set, not generated, no ``s3://`` and not in a git repository that can
            be cloned without a key.
    """
    if source in (*EMBEDDED, GENERATED) or source.startswith("s3://"):
        return
    repository = source.removeprefix(DVC).rpartition("@")[0] if source.startswith(DVC) else ""
    found = without_credentials(source)
    if _SSH.match(repository):
        raise ConfigError(
            f"source: expected dvc+https://…, for a container has no key for ssh, found {found!r}"
        )
    if not _CLONED.match(repository):
        known = ", ".join((*EMBEDDED, GENERATED))
        expected = f"{known}, s3://… or dvc+<URL of a git repository>@<revision>:<path>"
        raise ConfigError(f"source: expected what a container can reach, {expected}, found {found!r}")


def pinned(
    values: Mapping[str, Any], resolved: Callable[[str, str | None], tuple[str, str]]
) -> dict[str, str]:
    """The commit and the md5 that a ``dvc+`` source stands for now, so that Kubeflow's cache is right.

    Args:
        values: parameters of a run.
        resolved: :func:`fineprune.data.dvc_source.resolve`, or what remembers its answers.

    Raises:
        ConfigError: the md5 is given, and is another.
        StorageError: the source cannot be resolved.
    """
    source, revision, md5 = (str(values.get(name, "")) for name in ("source", "revision", "data_md5"))
    if not source.startswith(DVC):
        return {}
    commit, found = resolved(source, revision or None)
    if md5 and md5 != found:
        raise ConfigError(f"{source} at {commit}: expected data_md5 {md5}, found {found}")
    return {"revision": commit, "data_md5": found}


def _check_generator(run: Mapping[str, Any]) -> None:
    """A generator makes the data of the source ``generated``, and of no other."""
    source, wanted = without_credentials(str(run["source"])), run["source"] == GENERATED
    kind = (run.get("ingest", {}).get("generator") or {}).get("kind")
    if "ingest" in run and wanted != (kind is not None):
        expected = f"expected {'one' if wanted else 'none'} for the source {source}"
        raise ConfigError(f"ingest.generator: {expected}, found {kind or 'none'}")


def _check_pins(run: Mapping[str, Any]) -> None:
    """A revision is of a ``dvc+`` source, and an md5 is one that DVC records."""
    source, revision, md5 = (str(run.get(name) or "") for name in ("source", "revision", "data_md5"))
    if revision and not source.startswith(DVC):
        raise ConfigError(f"revision: expected none but for a source {DVC}…, found {revision} for {source}")
    if md5 and source in EMBEDDED:
        raise ConfigError(f"data_md5: expected none for the source {source}, found {excerpt(md5)}")
    if md5 and not MD5.fullmatch(md5):
        raise ConfigError(f"data_md5: expected an md5 as DVC records it, found {excerpt(md5)}")
