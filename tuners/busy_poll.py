"""How long a reader that waits polls the NIC itself before it sleeps: latency for the CPU's time, on the whole host."""

from collections.abc import Iterable, Sequence

from msgspec import structs

from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, skip
from wire.facts import Softnet
from wire.policy import Blast, Change, FileWrite, Setting

NAME = "busy_poll"
ABOUT = About(
    stage=Stage.PLACE,
    what="how long readers poll before they sleep",
    interface="net.core.busy_read, net.core.busy_poll",
    unit="µs",
    undo="the values before",
    blast=Blast.STARVATION,
    scope=Scope.HOST,
    facts=("softnet",),
    quirks="a process that waits burns a CPU: it needs spare cores; sockets with SO_BUSY_POLL have their own value",
)
_FOLDER = "/proc/sys/net/core/"
_FIELDS = {"busy_read": "busy_read_us", "busy_poll": "busy_poll_us"}
VALUES: dict[str, Spec] = {
    "busy_read": Spec(int, "µs that a blocking read polls; 0 is off", 0, 10_000),
    "busy_poll": Spec(int, "µs that poll and select poll; 0 is off", 0, 10_000),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Writes to the two sysctls where they differ."""
    for setting in settings:
        for name, wanted in sorted(setting.values.items()):
            current = getattr(facts.softnet, _FIELDS[name]) if facts.softnet else None
            if current is None:
                yield skip(setting, name, "the kernel has no busy polling, or this is not its first network namespace")
            elif current != wanted:
                yield Change(
                    knob=NAME,
                    target=f"net.core.{name}",
                    op=FileWrite(_FOLDER + name, str(current), str(wanted)),
                    blast=Blast.STARVATION if wanted else Blast.SAFE,
                    policy=setting.policy,
                    reason="as the policy says",
                )


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one write."""
    if not isinstance(change.op, FileWrite):
        return facts
    field = _FIELDS[change.op.path.removeprefix(_FOLDER)]
    return facts.replace([structs.replace(facts.softnet or Softnet(), **{field: int(change.op.after)})])
