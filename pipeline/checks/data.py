"""Whether the pods will find the data where the source says."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fineprune.data.dvc_source import PREFIX as DVC
from fineprune.data.dvc_source import TrackedPath
from fineprune.data.git_revision import CloneError
from fineprune.environment import environment
from fineprune.errors import StorageError, without_credentials
from fineprune.storage import AccessError, Bucket, split_url
from pipeline.checks.base import Line, Site
from pipeline.source import check_reachable

_STORE_LOGIN = (
    "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for another store than AWS, AWS_ENDPOINT_URL"
)


def source(site: Site) -> Iterator[Line]:
    """The source of the data answers from here, and has what the run will read."""
    check_reachable(site.source)
    if site.source.startswith("s3://"):
        yield _stored(site)
    elif site.source.startswith(DVC):
        yield _tracked(site)
    else:
        yield Line("skip", f"{site.source} needs no store; name another source with --source")


def _stored(site: Site) -> Line:
    """Whether the object store has what ingest will fetch."""
    name, key = split_url(site.source)
    bucket = Bucket(name, endpoint=_store(site))
    try:
        bucket.check()
        there = bucket.named(key)
    except StorageError as error:
        return Line("fail", str(error), _STORE_LOGIN)
    if not there:
        found = f"{site.source}: there is no such object, nor any below it"
        return Line("fail", found, "put the data there, or name another source with --source")
    return Line("pass", f"{site.source} is there")


def _tracked(site: Site) -> Line:
    """Whether git gives a pod the repository, and the object store what DVC tracks there."""
    with tempfile.TemporaryDirectory(prefix="fineprune-") as scratch:
        try:
            with environment(**_git_of_a_pod(scratch)):
                tracked = TrackedPath(site.source, Path(scratch), endpoint=_store(site))
        except CloneError as error:
            return Line("fail", str(error), "pods clone without a login: the repository must ask for none")
        try:
            place = tracked.in_remote()
            found = f"is {tracked.md5} at {tracked.commit[:12]}, and in {place}"
        except AccessError as error:
            return Line("fail", str(error), _STORE_LOGIN)
    return Line("pass", f"{without_credentials(site.source)} {found}")


def _git_of_a_pod(home: str) -> dict[str, str]:
    """Variables with which git reads none of this user's settings and logins: a pod has neither."""
    return {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ASKPASS": "",  # nor SSH_ASKPASS, which git would turn to
        "HOME": home,  # ~/.netrc
    }


def _store(site: Site) -> str | None:
    """The object store's address. boto3 reads the variables itself; the settings have the pods' address."""
    given = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    return None if given else site.settings.s3.address
