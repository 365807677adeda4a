"""What the kernel announces is looked at at once: collectors that run once an hour show that it is not the poll."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.events.stale import NIC as NIC_FACTS
from agent.events.stale import stale
from collectors.registry import ALL
from machine.monitor import Notice
from machine.uevents import Uevent
from tests.agent.brokers import wait_for
from tests.agent.space import NIC, WANTED, Space
from tests.agent.test_resident import Site
from wire.policy import ReportedStatus, Request
from wire.topics import Channel

HOURLY = "[intervals]\n" + "".join(f"{name} = 3600\n" for name in (one.NAME for one in ALL))


def uevent(action: str, devpath: str, subsystem: str) -> Notice:
    return Notice("device", about=Uevent(action, devpath, subsystem, {}))


@pytest.mark.parametrize(
    ("notice", "expected"),
    [
        (Notice("channels", 2, "eth0"), set(NIC_FACTS)),
        (Notice("link", 2, "eth0"), set()),  # a link that is as before: the event decides
        (Notice("resync", ifname="link"), set(NIC_FACTS)),
        (uevent("online", "/devices/system/cpu/cpu3", "cpu"), {"cpu", "numa", "irq", "queues", "cpufreq"}),
        (uevent("add", "/devices/pci/eth0/queues/rx-3", "queues"), {"nic", "irq", "queues"}),
        (uevent("bind", "/devices/pci0000:00/0000:00:04.0", "pci"), {"pci", *NIC_FACTS}),
        (uevent("add", "/module/igb", "module"), set(NIC_FACTS)),
        (uevent("change", "/devices/virtual/block/loop0", "block"), set()),
    ],
)
def test_what_makes_which_facts_old(notice: Notice, expected: set[str]) -> None:
    assert stale([notice], happened=False) == expected
    assert stale([notice], happened=True) == expected | set(NIC_FACTS)
    assert expected <= {one.NAME for one in ALL}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """An agent that enforces, and would look by itself once an hour."""
    config = tmp_path / "agent.toml"
    config.write_text(HOURLY)
    space = Space(tmp_path / "state")
    space.ip("link set lo up")
    made = Site(space, tmp_path, "--no-observe", "--config", str(config))
    yield made
    made.close()
    space.close()


def reload_driver(space: Space) -> None:
    """Away, and back under its name, as a module's or a driver's reload does it."""
    space.ip(f"link del {NIC}")
    space.ip(f"link add {NIC} numtxqueues 4 numrxqueues 4 type veth peer name vb numtxqueues 4 numrxqueues 4")
    space.ip(f"link set {NIC} up")
    space.ip("link set vb up")


def settings(space: Space) -> list[Any]:
    """As `snapshot`, without the index, which another device of the same name does not have."""
    return [{name: value for name, value in fact.items() if name != "ifindex"} for fact in space.snapshot()]


def fewer_queues(space: Space) -> None:
    space.run(lambda writer: writer.request(Request("channels", {}, {"rx": 1, "tx": 1}, space.ifindex())))


@pytest.mark.root
@pytest.mark.broker
@pytest.mark.parametrize("happens", [reload_driver, fewer_queues])
def test_it_is_applied_again_at_once(here: Site, happens: Callable[[Space], None]) -> None:
    here.want(1, WANTED)
    here.reported(1, ReportedStatus.APPLIED)
    after = settings(here.space)
    count = len(here.inventory.seen[Channel.REPORTED])
    happens(here.space)
    here.reported(1, ReportedStatus.APPLIED, count)
    wait_for(lambda: settings(here.space) == after)
