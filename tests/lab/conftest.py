"""One server of the lab for all tests, as at a snapshot for each of them; or a real machine by RACKHAND_MACHINE.

RACKHAND_MACHINE=user@host runs the tests that use `machine` there, over SSH.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware_lab import image, install
from hardware_lab.acpi import Values
from hardware_lab.bmc import Bmc
from hardware_lab.failure import LabError
from hardware_lab.guest import Guest
from hardware_lab.lab import Lab
from hardware_lab.machine import Machine
from hardware_lab.monitor import Monitor
from hardware_lab.vm import Vm

WAIT_S = 180.0  # everything in an emulated guest takes its time
READY = "ready"
# Several knobs of one NIC at once; what ends with more lines of its own goes on from here
MANY = """
name: many
nics: ["ifname={ifname}"]
knobs:
  rings: {{rx: 1024, tx: 1024}}
  channels: {{combined: 2}}
  coalesce: {{rx_usecs: 50}}
  irq_affinity: {{placement: local}}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An emulated guest whose host was busy can stall: such a test has a second go, which the summary counts."""
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def wait_for(done: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """What `done` returns once it is true; fails the test saying what did not come."""
    until = time.monotonic() + timeout_s
    while not (found := done()):
        assert time.monotonic() < until, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.2)
    return found


class Bench:
    """A server of the lab on the bench: in it, beside it, and the inventory it reports to."""

    def __init__(self, lab: Lab, vm: Vm) -> None:
        self.lab = lab
        self.vm = vm
        self.guest: Guest = vm.guest

    @property
    def bmc(self) -> Bmc:
        assert self.vm.bmc
        return self.vm.bmc

    @contextlib.contextmanager
    def monitor(self) -> Iterator[Monitor]:
        with self.vm.monitor() as monitor:
            yield monitor

    @contextlib.contextmanager
    def values(self) -> Iterator[Values]:
        with Values(self.vm.folder / "mem0") as values:
            yield values

    def nic(self, at: int) -> str:
        """The name that the guest has for a data NIC of the machine."""
        return self.vm.ifname(at)

    def journals(self) -> list[str]:
        """How each of the agent's transactions stands, oldest first."""
        script = (
            "from pathlib import Path; from agent import journal\n"
            "for path in journal.paths(Path('/var/lib/rackhand')):\n"
            "    story = journal.read(path)\n"
            "    print(story.state.value if story and story.stages else 'bare')"
        )
        return self.python(script).split()

    def python(self, script: str, timeout_s: float = 120) -> str:
        """A script run by the agent's Python in the guest."""
        return self.guest.run("/opt/rackhand/bin/python -", stdin=script.encode(), timeout_s=timeout_s)

    # -- the loop --

    def start_agent(self) -> None:
        install.start(self.guest)

    def host(self) -> dict[str, Any]:
        """The server as the inventory's list of hosts has it; empty while it is not there."""
        found = [host for host in self.lab.ask("hosts") or [] if host["hostname"] == self.vm.server.name]
        return found[0] if found else {}

    def facts(self) -> list[dict[str, Any]]:
        """All facts of the server in the inventory."""
        found = self.lab.ask("host", self.vm.server.name)
        facts: list[dict[str, Any]] = found["host"]["facts"]
        return facts

    def apply(self, policy: str) -> None:
        """Store a policy in the inventory and give every host its document."""
        path = self.lab.folder / "policy.yaml"
        path.write_text(policy)
        self.lab.tell("policy", "apply", str(path))

    def answers(self) -> bool:
        """Whether it can be reached now."""
        try:
            self.guest.run("true", timeout_s=10)
        except LabError:
            self.guest.hang_up()
            return False
        return True

    def outcomes(self) -> list[dict[str, Any]]:
        """What was last reported for each setting."""
        found = self.lab.ask("host", self.vm.server.name)["reported"] or {}
        outcomes: list[dict[str, Any]] = found.get("outcomes", [])
        return outcomes

    def host_reason(self) -> str:
        """Why the last transaction came out as it did."""
        return str(self.lab.ask("host", self.vm.server.name)["reported"].get("reason", ""))

    def events(self) -> list[str]:
        return [event["kind"] for event in self.lab.ask("events", "-n", "1000") or []]

    def wait_status(self, status: str) -> None:
        wait_for(lambda: self.host().get("status") == status, f"status {status}: {self.host()}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with one server that has the agent installed and not started, kept as a snapshot.

    RACKHAND_LAB=NAME takes one that an earlier run left (RACKHAND_LAB_KEEP=1) instead of building another.
    """
    if kept := os.environ.get("RACKHAND_LAB"):
        yield Lab.load(kept)
        return
    made = Lab.create(f"t{os.getpid()}")
    try:
        vm = made.add(Machine(), image.ensure())
        vm.start(nvme=False)
        made.install(vm, install.build(tmp_path_factory.mktemp("wheel")))
        vm.guest.run("modprobe -a bonding 8021q dummy nvme ipmi_devintf; sync")
        vm.save(READY)
        yield made
    finally:
        if not os.environ.get("RACKHAND_LAB_KEEP"):
            made.down()


@pytest.fixture
def server(lab: Lab) -> Bench:
    """The server as at the snapshot."""
    vm = lab.vm("srv1")
    vm.restore(READY)
    return Bench(lab, vm)


@contextlib.contextmanager
def reporting(server: Bench) -> Iterator[Bench]:
    """The server with an empty inventory, and its agent running and known there with its NICs."""
    server.lab.stop_inventory(forget=True)
    server.lab.start_inventory()
    try:
        server.start_agent()
        wait_for(lambda: server.lab.ask("nics", "-w", "ifname=mgmt0"), "the server in the inventory")
        yield server
    finally:
        server.lab.stop_inventory(forget=True)


@pytest.fixture
def loop(server: Bench) -> Iterator[Bench]:
    """The server as at the snapshot, reporting."""
    with reporting(server):
        yield server


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Guest:
    """A machine to look at and to tune: the lab's server, or the one that RACKHAND_MACHINE names."""
    named = os.environ.get("RACKHAND_MACHINE")
    if named:
        return Guest(named, tmp_path / "ssh.sock")
    bench: Bench = request.getfixturevalue("server")
    return bench.guest
