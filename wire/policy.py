"""What a host is to be, what would change, and what came of it."""

import enum
from collections.abc import Sequence

import msgspec
from msgspec import structs

from wire.measure import Effect, Measure
from wire.report import Severity

Value = str | int | bool
Values = dict[str, Value]


class Mode(enum.StrEnum):
    """What the agent does about a setting that differs."""

    ENFORCE = "enforce"  # apply it, and again when it drifts
    WARN = "warn"  # report the difference, never write
    YIELD = "yield"  # apply once; when somebody else changes it afterwards, leave it to them


class Blast(enum.StrEnum):
    """What a change can break while it is made, worst case."""

    SAFE = "safe"  # live, costs locality at most
    LINK = "link"  # resets queues or drops the link
    BLACKHOLE = "blackhole"  # may swallow traffic silently
    STARVATION = "starvation"  # may starve CPUs, of time or of memory
    REBOOT = "reboot"  # works only after the next boot


class FileWrite(msgspec.Struct, frozen=True, tag="file", tag_field="op"):
    """Write one kernel file; with `ifindex`, `{ifname}` in the path is resolved at the write: a rename is harmless."""

    path: str
    before: str
    after: str
    ifindex: int = 0


class Request(msgspec.Struct, frozen=True, omit_defaults=True, tag="request", tag_field="op"):
    """One request with named values to a kernel subsystem or a driver; `before` and `after` have the same names."""

    message: str  # a row of machine.requests.KINDS: "channels", "rings", ...
    before: Values
    after: Values
    ifindex: int = 0  # of the interface it is about; 0: of none
    ifname: str = ""  # at the time of the plan; the request is made by index
    item: str = ""  # what within the message: a queue, a virtual function, a PCI address


class IrqBan(msgspec.Struct, frozen=True, tag="irqban", tag_field="op"):
    """Tell a running irqbalance, through its socket, the full set of IRQs to keep its hands off."""

    before: list[int]
    after: list[int]


Op = FileWrite | Request | IrqBan


def inverse(op: Op) -> Op:
    """The op that undoes `op`."""
    return structs.replace(op, before=op.after, after=op.before)


class Change(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One step with no choice left in it: the dry run, the audit row and the undo."""

    knob: str  # the tuner's NAME
    target: str  # for people: "eth0", "eth0 tx-3", "irq 45 (eth0 rx-2)"
    op: Op
    blast: Blast = Blast.SAFE
    nic: str = ""  # key of the NIC fact it belongs to; "" for the host
    policy: str = ""  # the policy that asked for it
    reason: str = ""  # why this value, in one line


class OutcomeStatus(enum.StrEnum):
    """What came of one setting."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    DRIFTED = "drifted"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    REVERTED = "reverted"
    WARNED = "warned"  # differs; mode is warn, or the agent observes
    YIELDED = "yielded"  # somebody else changed it; mode is yield
    REFUSED = "refused"  # would cut the management path


class Skip(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A setting that a planner could not turn into changes, and why: nothing is guessed."""

    knob: str
    target: str
    reason: str
    nic: str = ""
    policy: str = ""
    status: OutcomeStatus = OutcomeStatus.UNSUPPORTED  # failed: impossible here; drifted: planned in a later stage


class Plan(msgspec.Struct, kw_only=True):
    """Ordered changes; empty when the machine is as the settings say."""

    changes: list[Change] = []
    skips: list[Skip] = []


class Setting(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One knob of one NIC, or of the host when `nic` is ""."""

    knob: str
    nic: str = ""  # key of the NIC fact
    values: Values
    mode: Mode = Mode.ENFORCE
    policy: str = ""
    allow: list[Blast] = []  # blast classes allowed on the management path; elsewhere all are
    measure: Measure | None = None  # how its changes prove that they help; None: nobody asks


class Desired(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one host is to be: immutable, whole, numbered. The agent never acts on an older generation."""

    host_id: str
    generation: int
    hash: str  # `content_hash(settings)`
    settings: list[Setting] = []
    confirm_s: int = 60  # roll back when the inventory is not heard of for that long after a change


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What came of one setting (knob and NIC)."""

    knob: str
    status: OutcomeStatus
    nic: str = ""
    target: str = ""
    policy: str = ""
    reason: str = ""
    changes: list[Change] = []  # made, or (drifted, warned) that would be
    effect: Effect | None = None  # what its changes did, where that was measured


class ReportedStatus(enum.StrEnum):
    """The host as a whole against its desired document; the worst outcome wins."""

    APPLIED = "applied"
    DRIFTED = "drifted"
    FAILED = "failed"
    REVERTED = "reverted"
    PENDING = "pending"


class Reported(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Retained: what came of the newest desired document."""

    host_id: str
    start: str
    generation: int
    hash: str
    status: ReportedStatus
    at_ms: int
    tx: str = ""  # id of the transaction, "" when nothing was to be done
    reason: str = ""
    outcomes: list[Outcome] = []


class Finding(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Something wrong, with the remedy. (rule, key) names it on a host."""

    rule: str
    key: str  # component key; "" for the host
    target: str  # for people: "eth0"
    severity: Severity = Severity.WARNING
    text: str
    remedy: str


def content_hash(settings: Sequence[Setting]) -> str:
    """SHA-256 over the settings' JSON, hex: equal content, equal hash."""
    import hashlib  # noqa: PLC0415 - pulls OpenSSL into the resident agent only when a document arrives

    return hashlib.sha256(msgspec.json.encode(list(settings), order="deterministic")).hexdigest()


DESIRED = msgspec.json.Decoder(Desired)
REPORTED = msgspec.json.Decoder(Reported)
PLAN = msgspec.json.Decoder(Plan)
