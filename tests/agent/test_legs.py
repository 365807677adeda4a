"""One NIC and one leg of a bond at a time, and what each class of danger needs; real bonds: tests/lab/test_legs.py."""

import contextlib
import threading
from pathlib import Path

import pytest

from agent import blast, deadman, guard, journal, legs, work
from agent.guard import Path as Way
from agent.journal import Story
from agent.legs import Health, Leg
from agent.work import FailedError, Work, batches
from machine.change import LiveWriter
from tests.agent.space import Space, desired
from wire.policy import Blast, Change, FileWrite, Request, Setting

UP = Health(carrier=True)


def change(nic: str, blast_class: Blast = Blast.LINK, knob: str = "channels") -> Change:
    return Change(knob=knob, target=nic or "host", op=FileWrite("/x", "0", "1"), nic=nic, blast=blast_class)


def leg(*, others: int, active: bool = True, health: Health = UP) -> Leg:
    return Leg("bond0", health, active=active, others=others)


def test_nics_come_one_by_one_gentle_ones_first_and_what_carries_management_last() -> None:
    path = Way({"a": "default route", "b": "default route"}, {"a": leg(others=1), "b": leg(others=1, active=False)})
    rough = [change("a"), change("b"), change("c"), change("a", knob="rings"), change("b", Blast.SAFE, "rps")]
    made = batches([change("", Blast.SAFE), change("d", Blast.SAFE), *rough, change("", Blast.STARVATION)], path)
    nics = [[one.nic for one in batch] for batch in made]
    assert nics == [["d"], ["", ""], ["c"], ["b", "b"], ["a", "a"]]
    assert batches([], path) == []


@pytest.mark.parametrize(
    ("blast_class", "path", "refused"),
    [
        (Blast.LINK, Way({"a": "default route"}, {"a": leg(others=1)}, frozenset("a")), ""),
        (Blast.LINK, Way({"a": "default route"}, {"a": leg(others=1)}), "carries the default route"),
        (Blast.LINK, Way({"a": "default route"}, {"a": leg(others=0)}, frozenset("a")), "carries the default route"),
        (Blast.BLACKHOLE, Way({"a": "default route"}, {"a": leg(others=1)}, frozenset("a")), "carries the"),
        (Blast.LINK, Way({}, {"a": leg(others=0)}), "is the last healthy leg of bond0"),
        (Blast.BLACKHOLE, Way({}, {"a": leg(others=0)}), "is the last healthy leg of bond0"),
        (Blast.LINK, Way({}, {"a": leg(others=0, health=Health(carrier=False))}), ""),
        (Blast.STARVATION, Way({"a": "default route"}), ""),
        (Blast.REBOOT, Way({"a": "default route"}), ""),
    ],
)
def test_what_is_at_stake(blast_class: Blast, path: Way, refused: str) -> None:
    found = guard.refused([change("a", blast_class)], [], path)
    assert bool(found) == bool(refused)
    assert refused in "".join(found.values())
    allowed = Setting(knob="channels", nic="a", values={}, allow=[blast_class])
    assert guard.refused([change("a", blast_class)], [allowed], path) == {}


def test_what_is_the_hosts_and_could_cut_needs_its_allowance_where_there_is_a_path() -> None:
    path = Way({"a": "default route"})
    assert guard.refused([change("", Blast.LINK)], [], Way()) == {}
    (reason,) = guard.refused([change("", Blast.LINK)], [], path).values()
    assert reason == "host could cut the default route; needs allow: [link]"


def test_every_class_says_what_it_needs() -> None:
    assert set(blast.NEEDS) == set(Blast)
    assert blast.requires(Blast.SAFE) == "dead-man"
    assert "one NIC at a time, probes, allow: [link]" in blast.requires(Blast.LINK)
    assert "reboot" in blast.requires(Blast.REBOOT)
    assert [one for one in Blast if blast.careful(one)] == [Blast.LINK, Blast.BLACKHOLE, Blast.STARVATION]


# -- two NICs whose link drops -----------------------------------------------------------------------------------------

CHANGED = [Setting(knob="channels", nic=nic, values={"rx": 2, "tx": 2}) for nic in ("va", "vc")]
PEERS = {"va": "vb", "vc": "vd"}


@pytest.fixture
def pair(space: Space) -> Space:
    """A second pair, vc and vd."""
    space.ip("link add vc numtxqueues 4 numrxqueues 4 type veth peer name vd numtxqueues 4 numrxqueues 4")
    space.ip("link set vd up")
    space.ip("link set vc up")
    return space


class Dropping(LiveWriter):
    """A driver whose link drops with each request, and comes back after `back_s`, or not at all."""

    def __init__(self, space: Space, back_s: float | None) -> None:
        super().__init__()
        self._space = space
        self.back_s = back_s
        self.healthy: list[int] = []  # of the two, at each request
        self._timers: list[threading.Timer] = []

    def request(self, op: Request) -> None:
        """Make it, with the link down for a while."""
        indices = {self._space.ifindex(name) for name in PEERS}
        self.healthy.append(sum(one.good for one in legs.read_health(self, indices).values()))
        super().request(op)
        self._space.ip(f"link set {PEERS[op.ifname]} down")
        if self.back_s is not None:
            up = f"link set {PEERS[op.ifname]} up"
            self._timers.append(threading.Timer(self.back_s, self._space.ip, [up]))
            self._timers[-1].start()

    def close(self) -> None:
        """Wait until all links are back."""
        for timer in self._timers:
            timer.join()
        super().close()


def attempt(space: Space, back_s: float | None, folder: Path) -> tuple[str, Dropping, Story]:
    """What an apply in this process fails with, the driver, and the journal's story; undone where it failed."""

    def run(_: LiveWriter) -> tuple[str, Dropping, Story]:
        with contextlib.closing(Dropping(space, back_s)) as driver:
            job = Work(driver, desired(CHANGED), [], None)
            with journal.create(folder, journal.opened(folder, 60.0)) as log:
                try:
                    job.apply(log, str)
                except FailedError as error:
                    driver.back_s = 0.0
                    deadman.revert(log, driver, str(error))
                    return str(error), driver, log.story
                return "", driver, log.story

    return space.run(run)


@pytest.mark.root
def test_the_next_nic_waits_until_this_one_is_back(pair: Space, tmp_path: Path) -> None:
    failed, driver, story = attempt(pair, 0.6, tmp_path)
    assert (failed, driver.healthy, len(story.stages)) == ("", [2, 2], 2)


@pytest.mark.root
def test_a_nic_that_does_not_come_back_is_undone_and_the_other_never_touched(
    pair: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "SETTLE_S", 0.5)
    before = [pair.snapshot(nic) for nic in PEERS]
    failed, driver, story = attempt(pair, None, tmp_path)
    assert failed == f"not as before after channels of va: interface {pair.ifindex()} has no carrier"
    assert [[one.target for one in stage.changes] for stage in story.stages] == [["va"]]
    assert story.state is journal.State.REVERTED
    assert driver.healthy[0] == 2
    assert [pair.snapshot(nic) for nic in PEERS] == before


@pytest.mark.root
def test_a_nic_that_had_no_carrier_is_not_waited_for(pair: Space) -> None:
    for name in PEERS.values():
        pair.ip(f"link set {name} down")
    assert pair.apply(settings=CHANGED)["status"] == "applied"


# -- what the kernel says of legs --------------------------------------------------------------------------------------


def test_what_is_worse() -> None:
    good, bad = Health(carrier=True), Health(carrier=True, link=False, lacp=False)
    assert legs.worse({1: good}, {1: good}) == legs.worse({1: bad}, {1: good}) == []
    assert legs.worse({1: good}, {}) == ["interface 1 is gone"]
    assert legs.worse({1: good}, {1: bad}) == [
        "interface 1 has no link as a leg of its bond",
        "interface 1 has no place in its bond's active aggregator",
    ]
