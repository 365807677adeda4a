"""How a verb of `rackhand-agent` ends: exit codes, the error of one line, what is printed."""

import sys

OK, FAILED, USAGE, BUSY, RULED, REVERTED, STATE = 0, 1, 2, 4, 5, 6, 7


class CliError(Exception):
    """A verb could not be done: one line, and the exit code."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


def say(text: str) -> int:
    """Print it with one end of line; returns the exit code of a success."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()
    return OK
