"""A terminal whose keys all go to the other side."""

import contextlib
import termios
import tty
from collections.abc import Generator
from typing import TextIO


@contextlib.contextmanager
def raw(stream: TextIO) -> Generator[None]:
    """Raw while it lasts, as it was afterwards; anything but a terminal is left as it is."""
    if not stream.isatty():
        yield
        return
    before = termios.tcgetattr(stream)
    tty.setraw(stream)
    try:
        yield
    finally:
        termios.tcsetattr(stream, termios.TCSADRAIN, before)
