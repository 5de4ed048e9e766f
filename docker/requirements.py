"""What the images install, taken from pyproject.toml and requirements.lock: ``<extra>.txt`` for each extra.

Runs in the image build, with the standard library alone. ``core`` stands for the package's own dependencies
and ``build`` for its build system.
"""

import argparse
import re
import tomllib
from pathlib import Path


def main() -> None:
    """Write the requirement files into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", choices=("cpu", "cuda"), required=True, help="which build of torch")
    parser.add_argument("extras", nargs="+")
    given = parser.parse_args()
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    told = {
        "core": project["project"]["dependencies"],
        "build": project["build-system"]["requires"],
        **project["project"]["optional-dependencies"],
    }
    for extra in given.extras:
        lines = [torch_build(given.torch) if _name(line) == "torch" else line for line in told[extra]]
        Path(f"{extra}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def torch_build(build: str) -> str:
    """The locked torch: the wheel that names itself a CPU build, or exactly that of PyPI, which has CUDA."""
    lock = Path("requirements.lock").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"^torch==\S+", lock, flags=re.MULTILINE)
    return f"{pinned}+cpu" if build == "cpu" else pinned.replace("==", "===")


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    main()
