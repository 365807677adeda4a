"""How a verb ends when it cannot do what it was asked: one line on stderr and an exit code of its own."""

import enum


class Exit(enum.IntEnum):
    """Exit codes of `rackhand`; the README's table is checked against this."""

    OK = 0
    FAILED = 1  # something else went wrong
    USAGE = 2  # unknown option, missing argument
    NOT_FOUND = 3  # no such host, policy or conflict
    DATABASE = 4  # not reachable, or its schema is not this release's
    BAD_INPUT = 5  # a policy, condition or file that cannot be used
    REFUSED = 6  # not confirmed: no terminal to ask on, or the answer was no
    BROKER = 7  # the broker could not be started
    RUNNING = 8  # another `up` has this state directory
    NO_REPORT = 9  # the agent of this host did not report in time, a host did not answer
    DEVICE = 10  # a BMC could not be reached, or refused
    INTERRUPTED = 130  # Ctrl-C


class Failure(Exception):  # noqa: N818 - it ends a verb, and that is what it is called
    """One line for people and the exit code that goes with it."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code
