"""What a host says about itself: birth, state, reports with facts, samples and events; and how it is answered."""

import enum
from collections.abc import Mapping

import msgspec


class Status(enum.StrEnum):
    """How one run of a collector ended."""

    OK = "ok"
    ABSENT = "absent"  # what it reads is not on this machine: normal
    FAILED = "failed"  # it raised; `reason` says what
    HUNG = "hung"  # past its deadline; quarantined until it returns


class Severity(enum.StrEnum):
    """Of events and findings."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Priority(enum.IntEnum):
    """What leaves the spool first, and is dropped last when it is full."""

    EVENT = 0
    INVENTORY = 1
    TELEMETRY = 2


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One number at the time of its run: `["nic.rx_bytes", "52:54:00:12:34:56", 1024]`."""

    metric: str  # <collector>.<name with unit>
    key: str  # of the component: as in the facts; "" for the host
    value: float


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Something happened at a moment."""

    at_ms: int  # ms since the epoch, UTC
    kind: str  # "link.down", "sensor.alarm", "spool.gap", "policy.applied", ...
    key: str = ""  # component, as in the facts; "" for the host
    severity: Severity = Severity.INFO
    text: str  # one line for people
    data: dict[str, str | int | float | bool | None] = {}


class Run(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One run of one collector.

    `facts` is None when they are the same as in the run that had the same digest; a list is the whole truth of this
    collector, so a component that is no longer in it is gone. Items are `facts.Fact`, decoded one by one.
    """

    collector: str
    status: Status = Status.OK
    at_ms: int
    duration_ms: float = 0.0
    reason: str = ""
    digest: str = ""
    facts: list[msgspec.Raw] | None = None
    samples: list[msgspec.Raw] = []  # `Sample` each
    partial: bool = False  # samples hold only what moved beyond its dead-band since the run before; else all there are


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One row of the spool, on channel `report` or `event`.

    (host_id, epoch, seq) names it for ever: `epoch` is the spool's identity, `seq` counts from 1 in it. `floor` is the
    lowest seq the spool still holds, so what is missing below it will never come. `start` names the agent process.
    """

    host_id: str
    epoch: str
    seq: int
    floor: int
    start: str
    runs: list[Run] = []
    events: list[msgspec.Raw] = []  # `Event` each


class Fingerprint(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What tells this machine from every other; empty where the machine does not say."""

    dmi_uuid: str = ""  # /sys/class/dmi/id/product_uuid
    product_serial: str = ""  # /sys/class/dmi/id/product_serial
    board_serial: str = ""  # /sys/class/dmi/id/board_serial
    machine_id: str = ""  # /etc/machine-id
    macs: list[str] = []  # permanent MACs of physical NICs, sorted


class Birth(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Retained; sent on every connect and on the command `rebirth`."""

    host_id: str
    start: str  # this agent process (random), as in State and Report
    epoch: str  # the spool
    hostname: str
    at_ms: int
    agent_version: str
    boot_id: str = ""  # /proc/sys/kernel/random/boot_id
    fingerprint: Fingerprint
    labels: dict[str, str] = {}  # from the agent's configuration
    collectors: list[str] = []
    tuners: list[str] = []
    observe: bool = True  # true: policies are planned and reported, never applied
    generation: int = 0  # of the last desired document acted on


class State(msgspec.Struct, kw_only=True):
    """Retained; the offline one is the last will. Only the `start` of the newest birth counts."""

    host_id: str
    start: str
    online: bool


class Ack(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Every row of this epoch up to `seq` is safe in SQL (or will never come) and may leave the spool.

    `start` is the process whose rows are acknowledged: a clone with the same host_id and epoch keeps its own.
    """

    host_id: str
    epoch: str
    seq: int
    start: str = ""  # "" is for any


class Command(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Do this once; the topic's name is its id."""

    verb: str  # "rebirth" | "collect" | "rollback" | "diagnose"
    args: dict[str, str] = {}


class Result(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What came of a command, on `result/<id>`."""

    ok: bool
    text: str = ""


def labels_text(labels: Mapping[str, str]) -> str:
    """`role=edge,rack=r1`, sorted by name."""
    return ",".join(f"{name}={labels[name]}" for name in sorted(labels))


SAMPLE = msgspec.json.Decoder(Sample)
EVENT = msgspec.json.Decoder(Event)
REPORT = msgspec.json.Decoder(Report)
BIRTH = msgspec.json.Decoder(Birth)
STATE = msgspec.json.Decoder(State)
ACK = msgspec.json.Decoder(Ack)
COMMAND = msgspec.json.Decoder(Command)
RESULT = msgspec.json.Decoder(Result)
