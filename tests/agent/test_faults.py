"""Every write of a full plan fails with every error: one clear outcome, and the machine fully before or fully after."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import structs

from agent import deadman, flows, guard, journal
from agent.journal import State
from agent.work import FailedError, Work
from collectors.run import collect_facts
from machine import MachineError, NotPresentError, Reply, ethtool_patch, requests, rtnl
from machine.capture import Captured
from machine.change import LiveWriter
from tests.agent.faulty import CODES, Faulty
from tests.agent.space import Space, desired
from tuners import engine, files
from tuners.hostfacts import HostFacts
from tuners.policy import compile_settings, parse_policy
from tuners.registry import BY_NAME
from wire.facts import Fact, Irq
from wire.policy import FileWrite, Op, Outcome, OutcomeStatus, Request, Setting

CAPTURES = Path(__file__).resolve().parents[1] / "captures"
POLICY = """
name: full
nics: ["ifname=va"]
preset: throughput
knobs:
  channels: {rx: 2, tx: 2}
  link: {mtu: 1400}
  offloads: {gro: true, tso: false}
  rps: {mode: all, flow_entries: 512}
  napi: {defer_hard_irqs: 10, gro_flush_timeout_ns: 20000, threaded: true}
  qdisc: {discipline: fq, txqueuelen: 2000}
"""
STARTED_WITH = """
cd /sys/class/net/va/queues; echo 2 > tx-3/xps_cpus; echo 1 > tx-0/xps_cpus
echo 1 > rx-3/rps_cpus; echo 64 > rx-2/rps_flow_cnt; echo 2 > rx-0/rps_cpus
"""
HERE = ("cpu_power", "numa_memory", "sysctl_net", "busy_poll")  # the host's own: never on the machine of the tests


class End(NamedTuple):
    """How one transaction ended."""

    failed: str
    results: list[Outcome]
    writes: int
    broken: Any
    state: State


def settings(writer: Any) -> list[Setting]:
    compiled = compile_settings([parse_policy(POLICY)], {}, HostFacts(collect_facts(writer)))
    return [setting for setting in compiled if setting.knob not in HERE]


def snapshot(writer: Any, wanted: list[Setting]) -> bytes:
    """All that can be read of what these settings are about."""
    names = {name for setting in wanted for name in BY_NAME[setting.knob].ABOUT.facts} - {"lldp", "clock"}
    keys = {setting.nic for setting in wanted}
    facts = [fact for fact in collect_facts(writer, sorted(names)) if fact.key in keys or not hasattr(fact, "ifname")]
    return msgspec.json.encode([_settable(fact) for fact in facts])


def _settable(fact: Fact) -> Fact:
    """Without where interrupts fire: nobody sets that."""
    if not isinstance(fact, Irq):
        return fact
    return structs.replace(fact, queues=[structs.replace(queue, effective="") for queue in fact.queues])


def transaction(writer: Any, wanted: list[Setting], folder: Path) -> End:
    """Apply, and undo where that failed, as `agent.transaction` does it."""
    folder.mkdir(parents=True, exist_ok=True)
    work = Work(writer, desired(wanted), [], None)
    with journal.create(folder, journal.opened(folder, 60.0)) as log:
        try:
            work.apply(log, str)
        except (FailedError, MachineError) as error:
            deadman.revert(log, writer, str(error))
            return End(
                str(error), work.results(undone=log.story.outcomes), len(writer.writes), writer.broken, log.story.state
            )
        log.mark(State.COMMITTED)
        return End("", work.results(), len(writer.writes), writer.broken, State.COMMITTED)


def is_as_before(writer: Any, broken: Op) -> bool:
    """Whether a write that did not do is not there."""
    if isinstance(broken, Request):
        return requests.read(writer, broken) != broken.after
    return not isinstance(broken, FileWrite) or not files.holds(broken, writer.read(broken.path), rounded=False)


def made(folder: Path) -> set[str]:
    """The knobs of the changes that a journal announces."""
    stories = [journal.read(path) for path in journal.paths(folder)]
    return {change.knob for story in stories if story for stage in story.stages for change in stage.changes}


def roll_back(writer: Any, folder: Path) -> None:
    for path in reversed(journal.paths(folder)):
        with journal.resume(path) as log:
            if log.story.state is State.COMMITTED:
                deadman.revert(log, writer, "rolled back")


def check(end: End, code: int, *, is_before: bool) -> None:
    """What every one of them has to come to."""
    statuses = {one.status for one in end.results}
    if end.failed:
        assert is_before, (end.failed, "undone, and yet not as before")
        assert end.state is State.REVERTED
        assert "\n" not in end.failed
        assert OutcomeStatus.FAILED in statuses
        assert all(one.reason for one in end.results if one.status in (OutcomeStatus.FAILED, OutcomeStatus.REVERTED))
    else:
        by_itself = isinstance(end.broken, Request) and end.broken.message == "qdisc"  # not every kernel has fq
        assert by_itself or code in (errno.EOPNOTSUPP, errno.EIO, errno.EPERM, errno.ENOSPC), end.broken
        assert OutcomeStatus.UNSUPPORTED in statuses


def every_fault(
    make: Callable[[], Any], wanted: list[Setting], folder: Path, codes: Callable[[int], tuple[int, ...]], *, late: bool
) -> tuple[int, int]:
    """All positions of the plan; how many writes it has, and how many transactions were undone."""
    before = snapshot(make(), wanted)
    whole = transaction(writer := Faulty(make()), wanted, folder / "whole")
    assert (whole.failed, whole.state) == ("", State.COMMITTED)
    assert snapshot(writer, wanted) != before
    roll_back(writer, folder / "whole")
    assert snapshot(writer, wanted) == before
    undone = 0
    for at in range(whole.writes):
        for code in codes(at):
            writer, state = Faulty(make(), at, code, late=late), folder / f"{at}-{code}-{late}"
            end = transaction(writer, wanted, state)
            assert end.failed or is_as_before(writer, end.broken), f"{end.broken} is half done"
            check(end, code, is_before=snapshot(writer, wanted) == before)
            undone += bool(end.failed)
            if not end.failed:
                roll_back(writer, state)
                assert snapshot(writer, wanted) == before, f"write {at}, {errno.errorcode[code]}"
    return whole.writes, undone


def in_turn(at: int) -> tuple[int, ...]:
    return (CODES[at % len(CODES)],)


def all_codes(_at: int) -> tuple[int, ...]:
    return CODES


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PAUSE_S", 0.001)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.mark.root
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("codes", "late"),
    [
        (in_turn, False),
        (in_turn, True),
        pytest.param(all_codes, False, marks=pytest.mark.soak),
        pytest.param(all_codes, True, marks=pytest.mark.soak),
    ],
)
def test_every_write_on_a_real_nic(
    space: Space, tmp_path: Path, codes: Callable[[int], tuple[int, ...]], late: bool
) -> None:
    space.shell(STARTED_WITH)

    def run(writer: LiveWriter) -> tuple[int, int]:
        return every_fault(lambda: writer, settings(writer), tmp_path, codes, late=late)

    writes, undone = space.run(run)
    knobs = made(tmp_path / "whole")
    print(f"{writes} writes of {sorted(knobs)}, {undone} transactions undone")
    assert {"channels", "offloads", "link", "napi", "qdisc"} <= knobs
    assert writes >= 12
    assert undone >= writes // 2


# -- a server that was recorded ----------------------------------------------------------------------------------------

SERVER = """
name: server
nics: ["driver in igb,virtio_net", "type=physical", "ifname!=mgmt0"]
knobs:
  rings: {rx: 1024}
  offloads: {tso: false}
  coalesce: {rx_usecs: 8}
  irq_affinity: {placement: local}
  xps: {mode: auto}
  rps: {mode: all}
"""


class Recorded(Captured):
    """Answers for one link, too, out of what was recorded of all."""

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """As `Machine.genl`."""
        try:
            return super().genl(family, command, payload, dump=dump)
        except NotPresentError:
            ifindex = int.from_bytes(payload[8:12], "little")
            whole = [body for call, body in self.tape.items() if call[:3] == ("genl", family, str(command))]
            said = [reply for body in whole if isinstance(body, list) for reply in body]
            found = [reply for reply in said if ethtool_patch.is_about(reply, ifindex)]
            if dump or not found:
                raise
            return found[:1]

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """As `Machine.rtnl`."""
        if kind != rtnl.GETLINK or dump:
            return super().rtnl(kind, payload, dump=dump)
        whole = super().rtnl(kind, payload[:4] + bytes(4) + payload[8:], dump=True)
        return [reply for reply in whole if reply.payload[4:8] == payload[4:8]]

    def close(self) -> None:
        """Nothing is open."""


def some(at: int) -> tuple[int, ...]:
    return () if at % 5 else in_turn(at)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("codes", [some, pytest.param(all_codes, marks=pytest.mark.soak)])
def test_every_write_on_a_recorded_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codes: Callable[[int], tuple[int, ...]], late: bool
) -> None:
    monkeypatch.setattr(guard, "survey", lambda *_: guard.Path())
    monkeypatch.setattr(guard, "leg_keys", lambda *_: dict[str, Any]())
    monkeypatch.setattr(flows, "read", lambda *_: list[Any]())
    source = str(CAPTURES / "lab-igb-sriov.txt")
    wanted = compile_settings([parse_policy(SERVER)], {}, HostFacts(collect_facts(Recorded(source))))
    wanted = [setting for setting in wanted if setting.knob not in HERE]
    writes, undone = every_fault(lambda: Recorded(source), wanted, tmp_path, codes, late=late)
    assert made(tmp_path / "whole") == {"coalesce", "irq_affinity", "offloads", "rings", "rps", "xps"}
    assert writes >= 40
    assert undone >= 3
