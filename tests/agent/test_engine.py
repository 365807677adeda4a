"""The engine on real interfaces: it looks before it writes, reads back after, and undoes what it made."""

import contextlib
import errno
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from machine import DeniedError, MachineError, Writer, failure
from machine.change import LiveWriter
from tests.agent.space import NIC, WANTED, Space
from tuners import engine, planner
from tuners.engine import GoneError, Made
from tuners.hostfacts import HostFacts
from wire.facts import Irq, Nic, Queue
from wire.policy import Change, FileWrite, OutcomeStatus, Request, Values

pytestmark = pytest.mark.root
APPLIED, FAILED, REVERTED, UNCHANGED, UNSUPPORTED = (
    OutcomeStatus.APPLIED,
    OutcomeStatus.FAILED,
    OutcomeStatus.REVERTED,
    OutcomeStatus.UNCHANGED,
    OutcomeStatus.UNSUPPORTED,
)


def file_change(path: str, before: str, after: str, ifindex: int = 0) -> Change:
    op = FileWrite(f"/sys/class/net/{{ifname}}/{path}" if ifindex else path, before, after, ifindex)
    return Change(knob="rps", target=f"{NIC} {path}", op=op, nic=NIC if ifindex else "")


def set_change(ifindex: int, message: str, before: Values, after: Values) -> Change:
    return Change(knob=message, target=NIC, op=Request(message, before, after, ifindex, NIC), nic=NIC)


def statuses(made: Sequence[Made]) -> list[OutcomeStatus]:
    return [one.status for one in made]


def apply(space: Space, changes: Sequence[Change], facts: HostFacts) -> list[Made]:
    return space.run(lambda writer: engine.apply(writer, changes, facts.nics))


def planned(facts: HostFacts) -> list[Change]:
    return planner.plan(WANTED, facts).changes


def test_a_plan_is_applied_in_order_and_undone_in_reverse(space: Space) -> None:
    facts = space.facts()
    before = space.snapshot()
    changes = planned(facts)
    assert statuses(apply(space, changes, facts)) == [APPLIED] * len(changes)
    assert space.snapshot() != before
    undone = space.run(lambda writer: engine.undo(writer, changes, facts.nics, []))
    assert [one.change for one in undone] == changes[::-1]
    assert set(statuses(undone)) == {REVERTED}
    assert space.snapshot() == before
    again = space.run(lambda writer: engine.undo(writer, changes, facts.nics, []))
    assert set(statuses(again)) == {UNCHANGED}


def test_what_is_there_already_is_not_written(space: Space) -> None:
    facts = space.facts()
    change = file_change("queues/rx-0/rps_cpus", "1", "0", space.ifindex())
    assert apply(space, [change], facts) == [Made(change, UNCHANGED)]


def test_a_value_somebody_else_changed_is_not_overwritten(space: Space) -> None:
    facts = space.facts()
    space.shell("echo 2 > /sys/class/net/va/queues/rx-0/rps_cpus")
    first = file_change("queues/rx-0/rps_cpus", "0", "1", space.ifindex())
    made = apply(space, [first, file_change("queues/rx-1/rps_cpus", "0", "1", space.ifindex())], facts)
    assert statuses(made) == [FAILED], "nothing is written after a failure"
    assert made[0].stale
    assert space.shell("cat /sys/class/net/va/queues/rx-[01]/rps_cpus").split() == ["2", "0"]


def test_a_rename_does_not_matter(space: Space) -> None:
    facts = space.facts()
    space.ip("link set va name vz")
    changes = planned(facts)
    assert statuses(apply(space, changes, facts)) == [APPLIED] * len(changes)
    space.run(lambda writer: engine.undo(writer, changes, facts.nics, []))
    space.ip("link set vz name va")
    assert planned(space.facts()) == changes


def test_another_device_under_the_index_is_left_alone(space: Space) -> None:
    facts = space.facts()
    index = space.ifindex()
    space.ip("link del va")
    space.ip(f"link add va index {index} numtxqueues 4 numrxqueues 4 type veth peer name vb")
    changes = planned(facts)
    assert statuses(apply(space, changes[:1], facts)) == [APPLIED], "without hardware there is no identity to compare"
    hardware = {NIC: structs.replace(facts.nics[NIC], driver="ice")}
    with pytest.raises(GoneError, match=r"va \(index \d+\) has driver veth, not ice"):
        space.run(lambda writer: engine.locate(writer, index, hardware[NIC]))
    made = space.run(lambda writer: engine.apply(writer, changes[1:], hardware))
    assert statuses(made) == [FAILED]
    assert "has driver veth, not ice" in made[0].reason


def test_a_removed_interface_fails_to_apply_and_needs_no_undo(space: Space) -> None:
    facts = space.facts()
    changes = planned(facts)
    space.ip("link del va")
    made = apply(space, changes, facts)
    assert statuses(made) == [FAILED]
    assert "is gone" in made[0].reason
    undone = space.run(lambda writer: engine.undo(writer, changes, facts.nics, []))
    assert set(statuses(undone)) == {UNCHANGED}


def test_what_the_driver_lacks_is_unsupported(space: Space) -> None:
    facts = space.facts()
    index = space.ifindex()
    changes = [set_change(index, "coalesce", {"rx_usecs": 1}, {"rx_usecs": 8})]
    changes += [set_change(index, "channels", {"rx": 4}, {"rx": 2})]
    made = apply(space, changes, facts)
    assert statuses(made) == [UNSUPPORTED, APPLIED]
    assert made[0].reason


def test_what_the_kernel_refuses_fails_with_its_own_words(space: Space) -> None:
    facts = space.facts()
    made = apply(space, [set_change(space.ifindex(), "channels", {"rx": 4}, {"rx": 9})], facts)
    assert statuses(made) == [FAILED]
    assert "exceeds maximum" in made[0].reason


def test_rounding_by_the_kernel_is_taken(space: Space) -> None:
    facts = space.facts()
    change = file_change("queues/rx-0/rps_flow_cnt", "0", "100", space.ifindex())
    assert statuses(apply(space, [change], facts)) == [APPLIED]
    assert space.shell("cat /sys/class/net/va/queues/rx-0/rps_flow_cnt").strip() == "128"
    undone = space.run(lambda writer: engine.undo(writer, [change], facts.nics, []))
    assert statuses(undone) == [REVERTED]


def test_masks_are_compared_as_sets(space: Space) -> None:
    facts = space.facts()
    change = file_change("queues/rx-0/rps_cpus", "00", "03", space.ifindex())
    assert statuses(apply(space, [change], facts)) == [APPLIED]


def test_a_stop_leaves_the_rest_undone(space: Space) -> None:
    facts = space.facts()
    changes = planned(facts)
    reasons = iter(["", "told to stop"])
    made = space.run(lambda writer: engine.apply(writer, changes, facts.nics, lambda: next(reasons)))
    assert [(one.status, one.reason) for one in made] == [(APPLIED, ""), (FAILED, "told to stop")]


def test_recreated_queues_get_their_steering_back(space: Space) -> None:
    space.shell(
        "cd /sys/class/net/va/queues; echo 3 > rx-3/rps_cpus; echo 256 > rx-3/rps_flow_cnt; echo 2 > tx-3/xps_cpus"
    )
    facts = space.facts()
    index = space.ifindex()
    before = space.snapshot()
    space.run(lambda writer: writer.request(Request("channels", {}, {"rx": 2, "tx": 2}, index)))
    space.run(lambda writer: writer.request(Request("channels", {}, {"rx": 4, "tx": 4}, index)))
    assert space.snapshot() != before, "the kernel forgets the steering of queues it removes"
    made = space.run(lambda writer: engine.restore(writer, facts.all(), [NIC], []))
    assert space.snapshot() == before
    assert statuses(made).count(REVERTED) == 3
    space.run(lambda writer: writer.request(Request("channels", {}, {"rx": 2, "tx": 2}, index)))
    made = space.run(lambda writer: engine.restore(writer, facts.all(), [NIC], []))
    assert set(statuses(made)) == {UNCHANGED}, "queues that are gone need none"


class Refusing(LiveWriter):
    """Files under a folder, where a write to some of them fails with an errno."""

    def __init__(self, root: Path, errors: dict[str, int]) -> None:
        super().__init__(str(root))
        self._errors = errors
        self.writes: list[tuple[str, str]] = []

    def write(self, path: str, text: str) -> None:
        self.writes.append((path, text))
        if code := self._errors.get(path):
            error = DeniedError(path) if code == errno.EPERM else MachineError(path)
            error.code = code
            raise error
        super().write(path, text)


def irq_files(tmp_path: Path, affinity: dict[int, str]) -> None:
    for number, cpus in affinity.items():
        folder = tmp_path / f"proc/irq/{number}"
        folder.mkdir(parents=True)
        (folder / "smp_affinity_list").write_text(cpus + "\n")


@pytest.mark.parametrize("code", [errno.EIO, errno.EPERM, errno.ENOSPC])
def test_interrupts_the_kernel_rules_are_unsupported(tmp_path: Path, code: int) -> None:
    irq_files(tmp_path, {40: "0-3", 41: "0-3"})
    writer = Refusing(tmp_path, {"/proc/irq/40/smp_affinity_list": code})
    changes = [file_change(f"/proc/irq/{number}/smp_affinity_list", "0-3", "1") for number in (40, 41)]
    made = engine.apply(writer, changes, {})
    assert statuses(made) == [UNSUPPORTED, APPLIED]
    assert "interrupt" in made[0].reason


def test_busy_is_tried_again_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PAUSE_S", 0.001)
    irq_files(tmp_path, {40: "0-3"})
    (tmp_path / "free").write_text("1\n")
    path = "/proc/irq/40/smp_affinity_list"

    class Busy(Refusing):
        left = 3

        def write(self, path: str, text: str) -> None:
            self.left -= 1
            if self.left >= 0:
                raise _busy(path)
            super().write(path, text)

    writer = Busy(tmp_path, {})
    assert statuses(engine.apply(writer, [file_change(path, "0-3", "1")], {})) == [APPLIED]
    writer = Busy(tmp_path, {})
    writer.left = 10_000
    made = engine.apply(writer, [file_change(path, "1", "2")], {})
    assert statuses(made) == [FAILED]
    assert writer.left == 10_000 - engine.TRIES


def _busy(path: str) -> MachineError:
    from machine import BusyError  # noqa: PLC0415

    return BusyError(path)


def test_affinity_comes_back_by_queue_though_the_numbers_changed(tmp_path: Path) -> None:
    irq_files(tmp_path, {40: "0", 41: "1", 50: "0-3", 51: "0-3", 52: "0-3"})
    nic = Nic(key="n", ifname="eth0", ifindex=2)
    before = Irq(
        key="n",
        ifname="eth0",
        source="netdev-genl",
        queues=[
            Queue(irq=40, rx=[0], tx=[0], cpus="0"),
            Queue(irq=41, rx=[1], tx=[1], cpus="1"),
            Queue(irq=42, name="eth0-ctl", control=True, cpus="2"),
            Queue(irq=43, rx=[2], tx=[2], cpus="3", managed=True),
        ],
    )
    now = Irq(
        key="n",
        ifname="eth0",
        source="netdev-genl",
        queues=[
            Queue(irq=50, rx=[1], tx=[1], cpus="0-3"),
            Queue(irq=51, rx=[0], tx=[0], cpus="0-3"),
            Queue(irq=52, name="eth0-ctl", control=True, cpus="0-3"),
        ],
    )
    writer = Refusing(tmp_path, {})
    made = engine.restore(writer, [nic, before], ["n"], [now])
    assert set(statuses(made)) == {REVERTED}
    assert sorted(writer.writes) == [
        ("/proc/irq/50/smp_affinity_list", "1"),
        ("/proc/irq/51/smp_affinity_list", "0"),
        ("/proc/irq/52/smp_affinity_list", "2"),
    ]
    assert engine.restore(writer, [nic, before], [], [now]) == [], "only what was reshaped"


def test_an_interrupt_number_that_is_anothers_now_is_not_touched(tmp_path: Path) -> None:
    irq_files(tmp_path, {40: "1"})
    writer = Refusing(tmp_path, {})
    change = structs.replace(file_change("/proc/irq/40/smp_affinity_list", "0", "1"), nic="n")
    other = Irq(key="n", ifname="eth0", source="netdev-genl", queues=[Queue(irq=50, rx=[0], cpus="1")])
    (made,) = engine.undo(writer, [change], {}, [other])
    assert (made.status, writer.writes) == (UNCHANGED, [])
    mine = Irq(key="n", ifname="eth0", source="netdev-genl", queues=[Queue(irq=40, rx=[0], cpus="1")])
    (made,) = engine.undo(writer, [change], {}, [mine])
    assert (made.status, writer.writes) == (REVERTED, [("/proc/irq/40/smp_affinity_list", "0")])


def test_the_tests_leave_this_machine_alone() -> None:
    names = subprocess.run(["ip", "-br", "link"], check=True, capture_output=True, text=True).stdout
    assert " va@" not in names


class Deaf(LiveWriter):
    """A driver that takes ethtool requests and does nothing: virtio_net without notification coalescing does so."""

    def request(self, op: Request) -> None:
        pass


def test_a_request_that_the_driver_takes_and_ignores_is_unsupported(space: Space) -> None:
    facts = space.facts()
    change = set_change(space.ifindex(), "channels", {"rx": 4}, {"rx": 2})

    def attempt(_writer: Writer) -> list[Made]:
        with contextlib.closing(Deaf()) as deaf:
            return engine.apply(deaf, [change], facts.nics)

    (made,) = space.run(attempt)
    assert made.status is UNSUPPORTED
    assert made.reason == "the driver takes the request and leaves everything as it was"


class HalfDone(LiveWriter):
    """A driver that makes the first of a request's changes, and then says that it does not do that."""

    stuck = False

    def request(self, op: Request) -> None:
        if not self.stuck:
            first = dict([next(iter(op.after.items()))])
            super().request(structs.replace(op, before={}, after=first))
        if op.after["rx"] == 2 or self.stuck:
            self.stuck = self.stuck or op.after["tx"] == 1
            raise failure(errno.EOPNOTSUPP if op.after["rx"] == 2 else errno.EIO, "channels")


@pytest.mark.parametrize(("tx", "status"), [(2, UNSUPPORTED), (1, FAILED)])
def test_what_turns_out_to_be_unsupported_half_way_is_undone(space: Space, tx: int, status: OutcomeStatus) -> None:
    facts, before = space.facts(), space.snapshot()
    change = set_change(space.ifindex(), "channels", {"rx": 4, "tx": 4}, {"rx": 2, "tx": tx})

    def attempt(_writer: Writer) -> Made:
        with contextlib.closing(HalfDone()) as driver:
            return engine.apply_change(driver, change, facts.nics)

    made = space.run(attempt)
    assert made.status is status, made.reason
    assert ("half done" in made.reason) == (status is FAILED)
    assert (space.snapshot() == before) == (status is UNSUPPORTED)
