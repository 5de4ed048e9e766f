"""What the text files of DVC in a commit say is tracked: ``<path>.dvc``, and the stages of a ``dvc.lock``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

from fineprune.data.git_revision import GitRevision
from fineprune.errors import StorageError, excerpt
from fineprune.files import as_mapping

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_MOST_MERGED = 100_000  # keys of a file, by YAML's <<


def tracked(git: GitRevision, path: PurePosixPath) -> tuple[str, PurePosixPath]:
    """The md5 of the tracked path that is or holds ``path``, and where in it ``path`` is.

    Raises:
        StorageError: there is none, or what DVC wrote is damaged or older than DVC 3.
    """
    holders = [path, *path.parents]
    outs: dict[PurePosixPath, Mapping[str, Any]] = {}
    for name in [*(f"{holder}.dvc" for holder in holders), *(str(up / "dvc.lock") for up in path.parents)]:
        outs |= _outs(git, name)
    for holder in holders:
        if holder in outs:
            return _md5_of(outs[holder], f"{git.repository}: {holder} at {git.revision}"), path.relative_to(
                holder
            )
    raise StorageError(f"{git.repository}: {path} is not tracked by DVC at {git.revision}")


def _outs(git: GitRevision, name: str) -> dict[PurePosixPath, Mapping[str, Any]]:
    """What a ``.dvc`` file, or the stages of a ``dvc.lock``, track, by path.

    A ``wdir`` that is a template is taken as it stands, so that no path is below it.
    """
    values, folder = _yaml(git, name), PurePosixPath(name).parent
    try:
        told = [(values.get("wdir"), values)]
        if stages := values.get("stages"):  # a lock does not say where its stages run
            defined = _yaml(git, str(folder / "dvc.yaml")).get("stages") or {}
            told += [(_wdir(defined.get(stage.partition("@")[0])), one) for stage, one in stages.items()]
        return {
            PurePosixPath(normpath(folder / (wdir or ".") / out["path"])): out
            for wdir, stage in told
            for out in stage.get("outs") or ()
        }
    except (AttributeError, KeyError, TypeError) as error:
        expected = "expected outs with a path each, as DVC writes them"
        raise StorageError(f"{git.repository}@{git.revision}: {name}: {expected}") from error


def _wdir(stage: object) -> Any:
    """Where a stage of a ``dvc.yaml`` runs, told by itself or under ``do``."""
    defined = as_mapping(stage)
    return (as_mapping(defined.get("do")) or defined).get("wdir")


def _yaml(git: GitRevision, name: str) -> Mapping[str, Any]:
    import yaml

    try:
        values = yaml.load(git.show(name), _bounded()) or {}  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date, or of deep nesting
        raise StorageError(f"{git.repository}@{git.revision}: {name}: not valid YAML") from error
    return as_mapping(values)


def _bounded() -> Any:
    """PyYAML's safe loader, which would copy what is merged into what is merged, tenfold in each line."""
    import yaml

    class Loader(yaml.SafeLoader):
        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            for key, value in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    self._count(value.value if isinstance(value, yaml.SequenceNode) else [value])
            super().flatten_mapping(node)

        def _count(self, sources: Sequence[Any]) -> None:
            for source in sources:
                if isinstance(source, yaml.MappingNode):
                    self.flatten_mapping(source)
                    self.merged += len(source.value)
                    if self.merged > _MOST_MERGED:
                        raise yaml.constructor.ConstructorError(problem="too much is merged")

    return Loader


def _md5_of(out: Mapping[str, Any], where: str) -> str:
    md5 = out.get("md5")
    if out.get("hash") != "md5" or not isinstance(md5, str) or not MD5.fullmatch(md5):
        raise StorageError(f"{where}: expected an entry of DVC 3 with hash: md5, found {excerpt(out)}")
    return md5
