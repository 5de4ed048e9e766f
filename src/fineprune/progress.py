"""Progress on stderr: how far, how long still."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], *, total: int, name: str, unit: str) -> Iterator[T]:
    """The items, with a bar of elapsed and remaining time; a line every 10 s where stderr is no terminal.

    What is done within a second shows nothing.
    """
    from tqdm import tqdm

    interactive = sys.stderr.isatty()
    yield from tqdm(
        items,
        total=total,
        desc=name,
        unit=unit,
        delay=1,
        mininterval=0.1 if interactive else 10,
        ascii=not interactive,
        dynamic_ncols=True,
        file=sys.stderr,
    )
