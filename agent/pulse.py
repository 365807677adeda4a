"""The heartbeat of our XDP programs: they let everything pass when it stops, and what manages this host in any case.

The resident agent feeds them; a transaction does until the agent takes over.
"""

import time
from collections.abc import Collection, Iterator

from agent import guard
from machine import Machine, MachineError, NotPresentError, xdp_pulse
from machine.live import Live
from wire.flowrule import Flow

EVERY_S = 2.0
LOOK_S = 10.0  # between two looks at who is connected
NEWLY_S = 30.0  # after new maps were seen, their programs may still be on their way to an interface
_STANDING = ("01", "02")  # established, and on its way there
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_INODE = 9


def flows(machine: Machine, ports: Collection[int] = (), peers: Collection[str] = ()) -> set[Flow]:
    """SSH sessions, and connections to `peers` (addresses) or to these `ports`; the ephemeral port of each is None."""
    found: set[Flow] = set()
    sockets = guard.ssh_sockets(machine)
    for path in _TABLES:
        try:
            found.update(_parse(machine.read(path), sockets, ports, peers))
        except NotPresentError:
            continue
    return found


def _parse(text: str, sockets: Collection[str], ports: Collection[int], peers: Collection[str]) -> Iterator[Flow]:
    for fields in map(str.split, text.splitlines()[1:]):
        if len(fields) <= _INODE or fields[3] not in _STANDING:
            continue
        local, _, local_port = fields[1].rpartition(":")
        remote, _, remote_port = fields[2].rpartition(":")
        here, there = guard.parse_address(local), guard.parse_address(remote)
        if int(local_port, 16) == guard.SSH_PORT or fields[_INODE] in sockets:
            yield Flow(there, None, here, int(local_port, 16))
        elif int(remote_port, 16) in ports or there in peers:
            yield Flow(there, int(remote_port, 16), here, None)


def feed(machine: Machine, peers: Collection[str] = ()) -> None:
    """Bring every root of ours to life once: its list of management first. Raises MachineError."""
    if isinstance(machine, Live):
        roots = xdp_pulse.Roots()
        roots.find(machine)
        roots.keep(flows(machine, peers=peers), forget=False)
        roots.feed()


class Pulse:
    """Feeds every root of ours in this network namespace, and finds new ones; costs one system call without any."""

    def __init__(self, machine: Machine, ports: Collection[int]) -> None:
        self._machine = machine
        self._ports = ports
        self._roots = xdp_pulse.Roots()
        self._works = isinstance(machine, Live)
        self._next_s = self._looked_s = self._until_s = 0.0
        self._brokers: set[Flow] = set()

    def wait_s(self) -> float:
        """Seconds until `step` has something to do; without a root to feed it is enough that it looks now and then."""
        now = time.monotonic()
        return max(0.0, self._next_s - now) if self._works and (self._roots or now < self._until_s) else 60.0

    def step(self) -> None:
        """Feed when it is time; without the right to, it is not tried again. Never raises MachineError."""
        now = time.monotonic()
        if not self._works or now < self._next_s:
            return
        self._next_s = now + EVERY_S
        try:
            self._beat(now)
        except MachineError:
            self._works = False

    def _beat(self, now: float) -> None:
        if self._roots.has_new_maps():
            self._until_s = now + NEWLY_S
        found = now < self._until_s and self._roots.find(self._machine)
        if self._roots and (found or now - self._looked_s > LOOK_S):
            self._looked_s = now
            self._keep()
        self._roots.feed()

    def _keep(self) -> None:
        """SSH's sessions come and go; where the broker was it is looked for again."""
        standing = flows(self._machine, self._ports)
        self._brokers |= {flow for flow in standing if flow.local_port is None}
        self._roots.keep(standing | self._brokers)
