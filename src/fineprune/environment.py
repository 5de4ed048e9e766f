"""Environment variables: that hold for a while, and that can be sent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from fineprune.errors import ConfigError


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables and restore them at the end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def check_sendable(*names: str) -> None:
    """Refuse a token that HTTP cannot carry before a library prints it in its complaint.

    Raises:
        ConfigError: one of the variables holds a line break, as of a file that ends with one, or what is
            not ASCII.
    """
    for name in names:
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isprintable()):
            found = "a line break in it" if {*value} & {*"\r\n"} else "other characters"
            raise ConfigError(f"{name}: expected one line of ASCII characters, found {found}")
