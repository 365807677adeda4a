"""How long a NIC waits before it interrupts: fixed microseconds and frames, or the driver's own adaption."""

from collections.abc import Iterable, Sequence

from tuners import projection
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, ethtool_change, skip
from tuners.rounding import coalesce_stands
from wire.facts import Ethtool
from wire.policy import Setting, Value, Values

NAME = "coalesce"
ABOUT = About(
    stage=Stage.SHAPE,
    what="how long an interrupt waits",
    interface="ethtool netlink COALESCE_SET",
    unit="µs, frames",
    undo="the values before",
    facts=("nic", "ethtool"),
    quirks="a driver that adapts moves the fixed values itself",
)

# Our word -> the kernel's, as in the Ethtool fact.
KERNEL = {
    "adaptive_rx": "use_adaptive_rx",
    "adaptive_tx": "use_adaptive_tx",
    "rx_usecs": "rx_usecs",
    "rx_frames": "rx_max_frames",
    "rx_usecs_irq": "rx_usecs_irq",
    "rx_frames_irq": "rx_max_frames_irq",
    "tx_usecs": "tx_usecs",
    "tx_frames": "tx_max_frames",
    "tx_usecs_irq": "tx_usecs_irq",
    "tx_frames_irq": "tx_max_frames_irq",
}
_ADAPTED = ("usecs", "frames")  # what adaption moves

VALUES: dict[str, Spec] = {
    name: Spec(bool, "the driver adapts to the load")
    if name.startswith("adaptive")
    else Spec(int, "microseconds" if "usecs" in name else "frames", 0, 65535)
    for name in KERNEL
}

project = projection.ethtool


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One ethtool request per NIC, adaption and fixed values together; what adaption moves is not compared."""
    for setting in settings:
        fact = facts.ethtool.get(setting.nic)
        if fact is None or not fact.coalesce:
            yield skip(setting, facts.nics[setting.nic].ifname, "unsupported by the driver")
        else:
            yield from _one(setting, fact)


def _one(setting: Setting, fact: Ethtool) -> Iterable[Step]:
    before: Values = {}
    after: Values = {}
    for name, wanted in sorted(setting.values.items()):
        current = fact.coalesce.get(KERNEL[name])
        if current is None:
            yield skip(setting, f"{fact.ifname} {name}", f"the driver has no {name}")
        elif adaptive := _adapted(name, setting.values, fact):
            reason = f"{adaptive} is on, so the driver moves it: set {adaptive} to false to fix it"
            yield skip(setting, f"{fact.ifname} {name}", reason)
        elif not _stands(current, wanted):
            before[KERNEL[name]], after[KERNEL[name]] = current, wanted
    if after:
        yield ethtool_change(setting, fact, before, after, "as the policy says")


def _adapted(name: str, values: Values, fact: Ethtool) -> str:
    """The adaption that owns the value once the setting is applied; "" when none does."""
    way, _, what = name.partition("_")
    adaptive = f"adaptive_{way}"
    is_on = fact.coalesce.get(f"use_{adaptive}", False)
    will_be = values.get(adaptive, is_on) if f"use_{adaptive}" in fact.coalesce else False
    return adaptive if what in _ADAPTED and will_be else ""


def _stands(current: Value, wanted: Value) -> bool:
    if isinstance(wanted, bool):
        return bool(current) == wanted
    return coalesce_stands(int(current), int(wanted))
