"""Control-C in the middle of something."""

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted(after: float) -> Iterator[None]:
    """Raise KeyboardInterrupt in the block after so many seconds."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # what hypothesis hangs on it would swallow the interrupt
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, before)
