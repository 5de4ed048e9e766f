"""Progress on stderr: how far, how long still."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO, TypeVar

S = TypeVar("S")
T = TypeVar("T")
_AHEAD = 4096  # items that wait for a thread: each takes 2 kB until its turn comes
_UP = "\x1b[A"  # moves a terminal's cursor back from a bar below another


def progress(items: Iterable[T], *, total: int, name: str, unit: str, done: int = 0) -> Iterator[T]:
    """The items that are left of ``total`` when some are ``done``, with a bar of elapsed and remaining time;
    a line every 10 s where stderr is no terminal.

    What is done within a second shows nothing.
    """
    yield from bar(items, total=total, initial=done, desc=name, unit=unit, delay=1)


def in_threads(work: Callable[[S], T], items: Sequence[S], *, threads: int, name: str, unit: str) -> list[T]:
    """``work`` done on every item, several at a time and in order, with :func:`progress`; the first error
    that it raises ends it.
    """
    slices = (items[start : start + _AHEAD] for start in range(0, len(items), _AHEAD))
    with ThreadPoolExecutor(threads) as pool:
        results = itertools.chain.from_iterable(pool.map(work, some) for some in slices)
        return list(progress(results, total=len(items), name=name, unit=unit))


def bar(items: Any = None, **options: Any) -> Any:
    """A ``tqdm`` on stderr, with its options; where that is no terminal, each of its states is a line."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(items, **{"dynamic_ncols": True, "file": sys.stderr, **options})
    return tqdm(items, **{"mininterval": 10, "ascii": True, "file": _Lines(sys.stderr), **options})


class _Lines:
    """Ends each state of a bar with a newline instead of going back over it: what collects the log of a
    container passes it on line by line, and would show the whole bar when all is over.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""

    def write(self, text: str) -> None:
        """Write a state, unless what it says before the times is the same again, as when a bar is closed;
        what only moves the cursor is left out.
        """
        state = text.replace(_UP, "").strip()
        count = state.partition("[")[0]
        if count and count != self._last:
            self._stream.write(f"{state}\n")
            self._last = count

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()
