"""A question before anything that cannot be taken back."""

import sys

from hwdb.cli.failure import Exit, Failure


def confirm(question: str, *, yes: bool) -> None:
    """Return when the answer is yes; raises Failure for no, and where there is no terminal to ask on."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure(Exit.REFUSED, f"{question} There is no terminal to ask on: say --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure(Exit.REFUSED, "nothing was changed")
