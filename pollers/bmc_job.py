"""What the worker of a BMC gets, and what it answers."""

import msgspec

from wire.facts import Fact
from wire.report import Event, Sample


class Job(msgspec.Struct, kw_only=True):
    """What the worker gets. It holds a password: never printed."""

    address: str
    port: int
    tls: str
    username: str
    password: str
    deadline_s: float
    now_ms: int
    verb: str = "poll"
    argument: str = ""
    known: bytes = b""  # what the last poll left, for the next

    def __repr__(self) -> str:
        """Its type alone."""
        return "Job()"


class Answer(msgspec.Struct, kw_only=True):
    """What the worker makes of a BMC."""

    facts: list[Fact] = []
    samples: list[Sample] = []
    events: list[Event] = []
    known: bytes = b""
    text: str = ""  # of a command


JOB = msgspec.msgpack.Decoder(Job)
ANSWER = msgspec.msgpack.Decoder(Answer)
