"""One generator per case, found by name: data that needs no download, the same for the same options.

A generator module holds an options dataclass and ``generate(options, folder)``. It writes files in a
public format, so that an ordinary reader reads them. Everything random follows from ``options.seed``;
the same machine writes the same bytes again.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

LICENCE = "synthetic"


class Options(Protocol):
    """The options of some generator."""

    @property
    def kind(self) -> str:
        """The generator's name."""
        ...


def generate(options: Options, folder: Path) -> None:
    """Fill ``folder`` with the generator of ``options.kind``.

    Args:
        options: the generator's own options dataclass.
        folder: an existing, empty folder.

    Raises:
        DataError: the options ask for what cannot be made.
        MissingExtraError: a library that the generator needs is not installed.
    """
    generator = importlib.import_module(f"{__name__}.{options.kind}")
    generator.generate(options, folder)
