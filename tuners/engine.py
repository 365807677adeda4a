"""Applies planned changes through a Writer, and undoes them: the only tuner module that touches a machine.

Every write is preceded by a look at the interface (same index, same hardware) and at the value (still what the plan
says), and followed by reading back. What a driver or the kernel will not do is "unsupported", not a failure.
"""

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from machine import (
    Machine,
    MachineError,
    NotPresentError,
    UnsupportedError,
    VanishedError,
    Writer,
    irqbalance,
    requests,
    rtnl,
)
from machine.ethtool_ioctl import read_drvinfo
from tuners import files, rounding
from wire.cpulist import format_cpumask, parse_cpulist
from wire.facts import Fact, Irq, Nic, Queue, Queues, Rss
from wire.indirection import is_default, parse_table
from wire.policy import Change, FileWrite, IrqBan, Op, OutcomeStatus, Request, inverse

TRIES = 6
PAUSE_S = 0.2
_IRQ = "/proc/irq/"
# requests about what an interface makes anew when it comes up, and about chips whose settings go with them
_FLEETING = ("napi", "napi_thread", "fan", "watchdog")

Nics = Mapping[str, Nic]  # by key


class GoneError(NotPresentError):
    """The interface is no longer there, or its index is another device now."""


class StaleError(MachineError):
    """The value is no longer what the plan started from: somebody else changed it."""


class TakenError(MachineError):
    """The kernel took the write, and reads back something else."""


class Made(NamedTuple):
    """What came of one change."""

    change: Change
    status: OutcomeStatus
    reason: str = ""
    stale: bool = False  # failed because somebody else changed the value meanwhile: a new plan helps


def key_by(facts: Sequence[Fact]) -> dict[str, Nic]:
    """The NIC facts by their key."""
    return {fact.key: fact for fact in facts if isinstance(fact, Nic)}


def locate(machine: Machine, ifindex: int, nic: Nic | None) -> str:
    """The interface's present name; raises GoneError when the index is nobody's or another device's."""
    try:
        link = rtnl.read_link(machine, ifindex)
    except NotPresentError:
        raise GoneError(f"interface {nic.ifname if nic else ''} (index {ifindex}) is gone") from None
    if nic and nic.perm_mac and link.perm_mac and nic.perm_mac != link.perm_mac:
        raise GoneError(f"{link.ifname} (index {ifindex}) is another device: {link.perm_mac}, not {nic.perm_mac}")
    if nic and nic.driver and (driver := _driver(machine, link.ifname)) != nic.driver:
        raise GoneError(f"{link.ifname} (index {ifindex}) has driver {driver or 'none'}, not {nic.driver}")
    return link.ifname


def _driver(machine: Machine, ifname: str) -> str:
    """As the `nic` collector has it: the device's driver, else what the driver calls itself."""
    try:
        return machine.target(f"/sys/class/net/{ifname}/device/driver").rpartition("/")[2]
    except NotPresentError:
        pass
    try:
        return read_drvinfo(machine, ifname).driver
    except NotPresentError:
        return ""


def _bound(machine: Machine, op: Op, nic: Nic | None) -> Op:
    """The op with the interface's present name in it."""
    if isinstance(op, IrqBan) or not op.ifindex:
        return op
    ifname = locate(machine, op.ifindex, nic)
    if isinstance(op, Request):
        return structs.replace(op, ifname=ifname)
    return FileWrite(op.path.replace("{ifname}", ifname), op.before, op.after, op.ifindex)


def _holds(machine: Machine, op: Op, *, driver: str | None = None) -> bool:
    """True when the machine has the op's `after`; with `driver`, when it has what that driver makes of it."""
    match op:
        case FileWrite():
            return files.holds(op, machine.read(op.path), rounded=driver is not None)
        case Request():
            now = requests.read(machine, op)
            return now.keys() == op.after.keys() and all(
                rounding.stands(op.message, driver, now[name], op.after[name]) for name in op.after
            )
        case IrqBan():
            return balanced(machine) == sorted(op.after)


def _put(writer: Writer, op: Op) -> None:
    match op:
        case FileWrite():
            writer.write(op.path, op.after)
        case Request():
            writer.request(op)
        case IrqBan():
            writer.irqbalance_ban(op.after)


def _retry(action: Callable[[], None]) -> None:
    """Run `action` again, a bounded number of times, while it says that a retry may help."""
    for _ in range(TRIES - 1):
        try:
            action()
        except MachineError as error:
            if not error.retry:
                raise
            time.sleep(PAUSE_S)
        else:
            return
    action()


def ensure(writer: Writer, op: Op, nic: Nic | None) -> bool:
    """Bring the machine to the op's `after`; False when it already was there. Raises MachineError."""
    if _holds(writer, _bound(writer, op, nic)):
        return False
    _retry(lambda: _put(writer, _bound(writer, op, nic)))
    if not _holds(writer, _bound(writer, op, nic), driver=nic.driver if nic else ""):
        raise TakenError("the write was taken, but another value reads back")
    return True


def _unsupported(op: Op, error: MachineError) -> str:
    """Why this error means that the machine does not do that; "" when it is a failure."""
    if isinstance(error, UnsupportedError):
        return str(error)
    if isinstance(op, FileWrite) and op.path.startswith(_IRQ):
        return _IRQ_ERRORS.get(error.code, "")
    return ""


def _ignored(writer: Writer, op: Op, error: MachineError, nic: Nic | None) -> str:
    """Why a driver that took a request and left everything as it was does not do that; "" when it is a failure."""
    if not isinstance(error, TakenError) or not isinstance(op, Request):
        return ""
    try:
        same = _holds(writer, _bound(writer, inverse(op), nic))
    except MachineError:
        return ""
    return "the driver takes the request and leaves everything as it was" if same else ""


_IRQ_ERRORS = {
    errno.EIO: "the kernel manages this interrupt itself",
    errno.EPERM: "the kernel manages this interrupt itself",
    errno.ENOSPC: "these CPUs have no interrupt vector left",
}


def apply_change(writer: Writer, change: Change, nics: Nics) -> Made:
    """Make one change; never raises MachineError, `status` and `reason` say what came of it."""
    nic = nics.get(change.nic)
    try:
        if not _holds(writer, _bound(writer, inverse(change.op), nic)):
            if _holds(writer, _bound(writer, change.op, nic)):
                return Made(change, OutcomeStatus.UNCHANGED)
            raise StaleError("somebody else changed the value after it was read")
        ensure(writer, change.op, nic)
    except MachineError as error:
        if why := _unsupported(change.op, error) or _ignored(writer, change.op, error, nic):
            return _unmade(writer, change, nic, why)
        return Made(change, OutcomeStatus.FAILED, f"{change.target}: {error}", isinstance(error, StaleError))
    return Made(change, OutcomeStatus.APPLIED)


def _unmade(writer: Writer, change: Change, nic: Nic | None, why: str) -> Made:
    """Unsupported, with what was done of it before that was found out undone: the rest of a plan goes on."""
    try:
        ensure(writer, inverse(change.op), nic)
    except MachineError as error:
        if not isinstance(error, NotPresentError):  # then there is nothing that could be half done
            return Made(change, OutcomeStatus.FAILED, f"{change.target}: {why}; half done: {error}")
    return Made(change, OutcomeStatus.UNSUPPORTED, why)


def apply(writer: Writer, changes: Sequence[Change], nics: Nics, stop: Callable[[], str] = str) -> list[Made]:
    """Make the changes in order, up to the first failure or until `stop()` gives a reason (reported as a failure)."""
    made: list[Made] = []
    for change in changes:
        if why := stop():
            made.append(Made(change, OutcomeStatus.FAILED, why))
            break
        made.append(apply_change(writer, change, nics))
        if made[-1].status is OutcomeStatus.FAILED:
            break
    return made


def undo(writer: Writer, changes: Sequence[Change], nics: Nics, irqs: Sequence[Irq]) -> list[Made]:
    """Bring every value back to its `before`, last change first; `irqs` are the interrupts as they are now.

    Whether a change was ever made does not matter. A device, queue or interrupt that is gone took its settings with it.
    """
    theirs = {irq.key: {queue.irq for queue in irq.queues} for irq in irqs}
    made = [_undo(writer, change, nics.get(change.nic), theirs) for change in reversed(changes)]
    return [again(writer, one, nics) for one in made]


def again(writer: Writer, made: Made, nics: Nics) -> Made:
    """Undo once more what follows from something undone after it (a default discipline from the MTU), or failed then.

    Nothing else: of a value that was changed twice only the first `before` is to stay.
    """
    op = made.change.op
    tried = made.status is OutcomeStatus.FAILED
    if not isinstance(op, Request) or not (
        tried or (made.status is OutcomeStatus.REVERTED and requests.kind(op).follows)
    ):
        return made
    second = _undo(writer, made.change, nics.get(made.change.nic), {})
    return made if second.status is OutcomeStatus.UNCHANGED and not tried else second


def _undo(writer: Writer, change: Change, nic: Nic | None, irqs: Mapping[str, set[int]]) -> Made:
    op = inverse(change.op)
    if isinstance(op, FileWrite) and op.path.startswith(_IRQ) and change.nic:
        number = _number(op)
        if number not in irqs.get(change.nic, set()):
            return Made(change, OutcomeStatus.UNCHANGED, f"interrupt {number} is no longer of this interface")
    try:
        written = ensure(writer, op, nic)
    except MachineError as error:
        if _took_it_along(op, error):
            return Made(change, OutcomeStatus.UNCHANGED, str(error))
        return Made(change, OutcomeStatus.FAILED, f"{change.target}: cannot be undone: {error}")
    return Made(change, OutcomeStatus.REVERTED if written else OutcomeStatus.UNCHANGED)


def _took_it_along(op: Op, error: MachineError) -> bool:
    """True when there is nothing left to undo: device, queue or irqbalance is gone, or the kernel rules that IRQ."""
    if isinstance(error, (GoneError, VanishedError)):
        return True
    if isinstance(error, UnsupportedError):
        return isinstance(op, FileWrite) and op.path.startswith(_IRQ)
    return isinstance(error, NotPresentError) and (not isinstance(op, Request) or op.message in _FLEETING)


def _number(op: FileWrite) -> int:
    return int(op.path.removeprefix(_IRQ).partition("/")[0])


def restore(writer: Writer, before: Sequence[Fact], reshaped: Sequence[str], irqs: Sequence[Irq]) -> list[Made]:
    """Give recreated queues their steering back: RPS, flow counts, XPS and interrupt affinity, by queue id."""
    nics = key_by(before)
    surviving = (*_steering(before, set(reshaped)), *_spreading(before, set(reshaped)))
    made = [_undo(writer, change, nics.get(change.nic), {}) for change in surviving]
    now = {irq.key: irq for irq in irqs}
    for fact in before:
        if isinstance(fact, Irq) and fact.key in reshaped and fact.key in now:
            affinity = _affinity(fact, now[fact.key])
            made += [_undo(writer, change, None, {fact.key: _numbers(change)}) for change in affinity]
    return made


def _steering(before: Sequence[Fact], reshaped: set[str]) -> Iterator[Change]:
    for fact in before:
        if isinstance(fact, Queues) and fact.key in reshaped:
            files = [(f"rx-{n}/rps_cpus", _mask(cpus)) for n, cpus in enumerate(fact.rps_cpus)]
            files += [(f"rx-{n}/rps_flow_cnt", str(count)) for n, count in enumerate(fact.rps_flow_cnt)]
            files += [(f"tx-{n}/xps_cpus", _mask(cpus)) for n, cpus in enumerate(fact.xps_cpus or [])]
            for name, text in files:
                op = FileWrite(f"/sys/class/net/{{ifname}}/queues/{name}", text, "", fact.ifindex)
                yield Change(knob="channels", target=f"{fact.ifname} {name}", op=op, nic=fact.key)


def _spreading(before: Sequence[Fact], reshaped: set[str]) -> Iterator[Change]:
    """An indirection table that somebody chose: drivers may fall back to their own when they make queues anew."""
    for fact in before:
        chosen = isinstance(fact, Rss) and fact.table and not is_default(parse_table(fact.table), fact.queues)
        if isinstance(fact, Rss) and chosen and fact.key in reshaped:
            op = Request("rss", {"table": fact.table}, {"table": ""}, ifindex=fact.ifindex, ifname=fact.ifname)
            yield Change(knob="channels", target=f"{fact.ifname} table", op=op, nic=fact.key)


def _mask(cpulist: str) -> str:
    return format_cpumask(parse_cpulist(cpulist))


def _serves(queue: Queue) -> tuple[object, ...]:
    return (*queue.rx, "/", *queue.tx) if queue.rx or queue.tx else (queue.name,)


def _affinity(before: Irq, now: Irq) -> Iterator[Change]:
    """Changes whose `before` is the old affinity of the interrupt that serves the same queues today."""
    numbers = {_serves(queue): queue for queue in now.queues}
    for queue in before.queues:
        today = numbers.get(_serves(queue))
        if today and queue.cpus and not queue.managed:
            op = FileWrite(f"{_IRQ}{today.irq}/smp_affinity_list", queue.cpus, today.cpus)
            yield Change(knob="channels", target=f"irq {today.irq} ({before.ifname})", op=op, nic=before.key)


def _numbers(change: Change) -> set[int]:
    return {_number(change.op)} if isinstance(change.op, FileWrite) else set()


def balanced(machine: Machine) -> list[int]:
    """The interrupts a running irqbalance keeps its hands off, sorted; raises NotPresentError when none runs."""
    return sorted(irqbalance.parse_setup(machine.irqbalance("setup")).banned_irqs)
