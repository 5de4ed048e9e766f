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
from fineprune.files import whole_outputs
from pipeline import graph, parameters, settings
from pipeline.settings import Settings

FOLDER = Path(__file__).with_name("compiled")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.add_argument("--profile", metavar="NAME", help="of the settings; default: their default_profile")
    parser.add_argument("--settings", type=Path, default=settings.FILE, metavar="FILE")
    parser.add_argument(
        "--case", metavar="NAME", help="whose sections are the defaults, instead of params.yaml's"
    )
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="where the files go")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if the files there are not current"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files, or check those that are there."""
    profile = arguments.profile or settings.default_profile(arguments.settings)
    suffix = "" if profile == settings.default_profile(arguments.settings) else f".{profile}"
    loaded = settings.load(profile, arguments.settings)
    files = {
        arguments.output / f"{name}{suffix}{extension}": content
        for name, build in PIPELINES.items()
        for extension, content in render(build(loaded, arguments.case), loaded).items()
    }
    return check(files) if arguments.check else write(files)


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


def check(files: Mapping[Path, str]) -> int:
    """Name the files that are not what would be written; 1 if there are any."""
    stale = [
        path for path, content in files.items() if not path.exists() or path.read_text("utf-8") != content
    ]
    if stale:
        names = ", ".join(map(str, stale))
        print(f"{names}: not current; run python -m pipeline compile", file=sys.stderr)
    return 1 if stale else 0


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
