"""``python -m pipeline compile``: the pipelines as Kubeflow reads them, the same bytes every time.

``NAME.yaml`` is the package that ``kfp run create -f`` takes, ``NAME.k8s.yaml`` the ``Pipeline`` and
``PipelineVersion`` that ``kubectl apply`` takes where KFP keeps its pipelines in Kubernetes.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl.base_component import BaseComponent

from components import VERSION
from fineprune.errors import ConfigError
from fineprune.outputs import whole_outputs
from pipeline import graph, parameters, settings
from pipeline.package import FOLDER, package_file
from pipeline.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.add_argument("--profile", metavar="NAME", help="of the settings; default: their default_profile")
    parser.add_argument(
        "--case",
        metavar="NAME",
        help="take fine_pruning's defaults from cases/NAME.yaml; needs --output",
    )
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="where the files go")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if the files there are not current"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files, or check those that are there.

    Raises:
        ConfigError: another case's files would take the place of those that are committed.
    """
    if arguments.case and arguments.output.resolve() == FOLDER.resolve():
        raise ConfigError(
            f"--case {arguments.case}: {FOLDER.name}/ holds params.yaml's case; add --output DIR"
        )
    loaded = settings.load(arguments.profile)
    files = {
        package_file(arguments.profile, name, folder=arguments.output).with_suffix(extension): content
        for name, build in PIPELINES.items()
        for extension, content in render(build(loaded, arguments.case), loaded).items()
    }
    return check(files, arguments.profile) if arguments.check else write(files)


def check_current(path: Path, wanted: str | None) -> None:
    """Refuse a package of ours that was compiled from other settings or params, or for another profile.

    Args:
        path: of the package; one that does not lie in :data:`FOLDER` is anybody's, and is left to its owner.
        wanted: the profile that is asked for; None for the package's own.

    Raises:
        ConfigError: it is not what would be written now, is not there, or is of another profile.
    """
    name, _, profile = path.stem.partition(".")
    if path.resolve().parent != FOLDER.resolve() or name not in PIPELINES:
        return
    if wanted and (expected := package_file(wanted, name)).name != path.name:
        raise ConfigError(f"--package {path}: expected {expected.name} for --profile {wanted}")
    package = _compile(PIPELINES[name](settings.load(profile or None), None), None)
    if not _holds(path, package):
        found = "is not what the settings and params say" if path.exists() else "is not there"
        raise ConfigError(f"{path}: the package {found}; run {_command(profile)}")


def render(pipeline: BaseComponent, loaded: Settings) -> dict[str, str]:
    """The package and the manifests of a pipeline, by the extension of their files."""
    package = _compile(pipeline, None)
    info = pipeline.pipeline_spec.pipeline_info
    version = f"{VERSION}-{hashlib.sha256(package.encode()).hexdigest()[:12]}"
    options = KubernetesManifestOptions(
        pipeline_name=info.name,
        pipeline_display_name=info.display_name,
        # A version is never changed: another package is another version.
        pipeline_version_name=f"{info.name}-{version}",
        pipeline_version_display_name=version,
        namespace=loaded.namespace,
        include_pipeline_manifest=True,
    )
    return {".yaml": package, ".k8s.yaml": _compile(pipeline, options)}


def write(files: Mapping[Path, str]) -> int:
    """Write every file, each by one rename, and say so."""
    with whole_outputs({str(path): path for path in files}) as scratch:
        for path, content in files.items():
            scratch[str(path)].write_text(content, encoding="utf-8")
    print("\n".join(map(str, files)))
    return 0


def check(files: Mapping[Path, str], profile: str | None = None) -> int:
    """Name the files that are not what would be written; 1 if there are any."""
    stale = [path for path, content in files.items() if not _holds(path, content)]
    if stale:
        names = ", ".join(map(str, stale))
        print(f"{names}: not current; run {_command(profile)}", file=sys.stderr)
    return 1 if stale else 0


def _command(profile: str | None) -> str:
    return "python -m pipeline compile" + (f" --profile {profile}" if profile else "")


def _holds(path: Path, content: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == content


def _sweep(loaded: Settings, case: str | None) -> BaseComponent:
    return graph.fine_pruning_sweep(loaded)


def _single(loaded: Settings, case: str | None) -> BaseComponent:
    return graph.fine_pruning(loaded, case or parameters.default_case())


PIPELINES: dict[str, Callable[[Settings, str | None], BaseComponent]] = {
    "fine_pruning": _single,
    "fine_pruning_sweep": _sweep,
}
"""What builds each pipeline, by the name of its files."""


def _compile(pipeline: BaseComponent, options: KubernetesManifestOptions | None) -> str:
    """The documents that kfp writes, without its comments: those list dicts in random order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(
            pipeline,
            str(path),
            kubernetes_manifest_options=options,
            kubernetes_manifest_format=options is not None,
        )
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    text = yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True, width=110)
    return f"# Written by `python -m pipeline compile`: do not edit.\n{text}"
