"""Where the data of a case lies, told to ``ingest`` so that moving it does not count as a change.

``ingest`` reads a link with a name that stays and is told the md5 of what it must find there. Both stand in
a params file of the case, which DVC compares: other data is ingested anew, the same data elsewhere is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from fineprune.data.sources import ARCHIVES, GENERATED
from fineprune.digests import dvc_md5
from fineprune.errors import ConfigError, MissingInputError
from fineprune.files import as_mapping
from fineprune.outputs import whole_outputs
from fineprune.params import read_yaml


def write_sources(root: Path, folder: Path, cases: Sequence[str], sources: Mapping[str, Path]) -> None:
    """Write the params file of each case. A case that is not named keeps the source that it had before.

    Args:
        root: the repository.
        folder: for the files and links, from the repository's root.
        cases: all that are to be run.
        sources: a folder or an archive by case.

    Raises:
        ConfigError: a source is of another case, or of one whose data is drawn.
        MissingInputError: a source is not there.
    """
    for case, path in sources.items():
        if case not in cases:
            raise ConfigError(f"--source: expected one of {', '.join(cases)}, found {case}")
        if not path.exists():
            raise MissingInputError(f"--source {case}: {path}: no such folder or archive")
        if as_mapping(read_yaml(root / "cases" / f"{case}.yaml").get("ingest")).get("source") == GENERATED:
            raise ConfigError(f"--source: expected a case that reads data, found {case}, which draws its own")
    (root / folder).mkdir(parents=True, exist_ok=True)
    for case in cases:
        file = root / folder / f"{case}.yaml"
        if case in sources:
            _write(file, _linked(root, folder, case, sources[case].absolute()))
        elif not file.exists():
            _write(file, {})


def _write(file: Path, told: Mapping[str, str]) -> None:
    with whole_outputs({"file": file}) as scratch:
        scratch["file"].write_text(yaml.safe_dump({"ingest": dict(told)}), encoding="utf-8")


def _linked(root: Path, folder: Path, case: str, path: Path) -> dict[str, str]:
    kind = next((suffix for suffix in ARCHIVES if path.name.endswith(suffix)), "")
    link = folder / f"{case}{kind}"
    md5 = dvc_md5(path)  # may take minutes: the old link stays until it is known
    aside = (root / link).with_name(f".{link.name}.new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(path)
    aside.replace(root / link)
    return {"source": str(link), "md5": md5}
