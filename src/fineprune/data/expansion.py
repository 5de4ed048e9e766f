"""How much may come out of a file that is not trusted: a few kilobytes can claim to hold terabytes."""

from __future__ import annotations

import shutil
from pathlib import Path

# Deflate reaches 1032. Of data, annotations in XML reach 38 in a tar.gz, and files of one digit each 115.
_RATIO = 200
_SMALL = 2**28  # bytes that any machine has, whatever they came out of
_SHARE = 0.9  # of the free disk; others write there too


def most(stored: int) -> int:
    """How many bytes may come out of so many that are stored, compressed or not."""
    return max(_SMALL, _RATIO * stored)


def room(folder: Path) -> int:
    """How many bytes may be written to a folder's disk."""
    return int(_SHARE * shutil.disk_usage(folder).free)
