"""Python's search for cycles among objects, which is in the way where millions are made."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage() -> Iterator[None]:
    """Let Python not look for cycles: there are none among rows or images, and it takes a third of
    the time, or half.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
