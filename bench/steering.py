"""RPS and XPS natively: what a packet costs on a veth of one queue, and on how many CPUs, as each peer steers it.

Traffic crosses a pair of namespaces on this box. Windows of nothing and of the peer take turns, three of each, and the
verdict is the measurement gate's own, with its noise. irqbalance and TuneD steer interrupts, which a veth has none of.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from bench.peers import SERVE
from tuners import measure
from tuners.measure import Window
from tuners.presets import PRESETS
from wire.measure import Measure, Objective
from wire.policy import Desired, Setting, content_hash

ROOT = Path(__file__).resolve().parents[1]
WINDOWS, WINDOW_S, RATE = 4, 2.0, 30_000
FAR = "10.79.0.2"
_WINDOW = """
import json
from agent.meter import Meter
from machine.live import Live
from tuners.measure import window
with open("/sys/class/net/far/ifindex") as file:
    found = window(*Meter(Live(), [int(file.read())]).window(%f, str))
print(json.dumps([found.load, found.bits, found.values]))
"""
_UNSTEER = "for file in /sys/class/net/far/queues/*/[rx]ps_cpus; do echo 0 > $file 2>/dev/null || true; done"


class Pair:
    """Two namespaces, a sender in one and a server in the other."""

    def __init__(self, name: str, state: Path) -> None:
        self.near, self.far = f"{name}-a", f"{name}-b"
        self._state = state

    def shell(self, space: str, script: str) -> str:
        """Output of a script in a namespace; /sys is its own there."""
        argv = ["ip", "netns", "exec", space, "sh", "-ec", script]
        return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout

    def window(self) -> Window:
        """One window of the receiving end."""
        argv = ["ip", "netns", "exec", self.far, sys.executable, "-c", _WINDOW % WINDOW_S]
        said = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        return Window(*json.loads(said))

    def unsteer(self) -> None:
        """As the kernel makes it: nothing is steered."""
        self.shell(self.far, _UNSTEER)

    def spread(self) -> None:
        """The mask that autorps and perftune write for a NIC of one queue: the CPUs of its node, here all."""
        mask = format((1 << (os.cpu_count() or 1)) - 1, "x")
        self.shell(self.far, f"echo {mask} > /sys/class/net/far/queues/rx-0/rps_cpus")

    def rackhand(self) -> None:
        """The steering of the throughput preset, as a transaction."""
        settings = [Setting(knob=knob, nic="far", values=PRESETS["throughput"][knob]) for knob in ("xps", "rps")]
        document = Desired(host_id="bench", generation=1, hash=content_hash(settings), settings=settings)
        (self._state / "desired.json").write_bytes(msgspec.json.encode(document))
        command = f"{sys.executable} -m agent.transaction --state {self._state} --confirm self"
        self.shell(self.far, command)


def main() -> None:
    """Print a row for each peer."""
    if os.geteuid():
        print("  needs root, for the namespaces")
        return
    with tempfile.TemporaryDirectory() as state, laid(Path(state)) as pair:
        rows: dict[str, Callable[[], None]] = {
            "nothing": pair.unsteer,
            "autorps, perftune": pair.spread,
            "rackhand": pair.rackhand,
        }
        for name, put in rows.items():
            sides: tuple[list[Window], list[Window]] = ([], [])
            for _ in range(WINDOWS):
                for side, steer in zip(sides, (pair.unsteer, put), strict=True):
                    steer()
                    side.append(pair.window())
            pair.unsteer()
            print(f"  {name:20}{row(*sides)}", flush=True)


def row(before: list[Window], after: list[Window]) -> str:
    """Packets and cost beside nothing, and how uneven the CPUs are."""
    found = measure.judge(before, after, Measure(objective=Objective.BALANCED), interleaved=True)
    rate = measure.mean([each.load for each in after]) / measure.mean([each.load for each in before])
    uneven = [measure.mean([each.values.get("imbalance", 0.0) for each in side]) for side in (before, after)]
    cost = found.after / found.before if found.before else 0.0
    shown = f"packets {rate:5.2f}, CPU per packet {cost:5.2f} of nothing (noise {found.noise:.0%}: {found.verdict})"
    return f"{shown}, busiest CPU over mean {uneven[0]:.2f} to {uneven[1]:.2f}"


@contextlib.contextmanager
def laid(state: Path) -> Generator[Pair]:
    """The pair with its traffic under way."""
    pair = Pair(f"steer{os.getpid()}", state)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for space in (pair.near, pair.far):
            subprocess.run(["ip", "netns", "add", space], check=True)
        pair.shell(pair.near, f"ip link add near type veth peer name far netns {pair.far}")
        pair.shell(pair.near, "ip addr add 10.79.0.1/24 dev near; ip link set near up")
        pair.shell(pair.far, f"ip addr add {FAR}/24 dev far; ip link set far up")
        serve = ["ip", "netns", "exec", pair.far, sys.executable, "-c", SERVE]
        flood = ["ip", "netns", "exec", pair.near, sys.executable, "-m", "bench.peers", "flood", FAR, str(RATE)]
        for argv in (serve, flood):
            started.append(subprocess.Popen(argv, cwd=ROOT))
            time.sleep(1)
        yield pair
    finally:
        for process in started:
            process.kill()
            process.wait()
        for space in (pair.near, pair.far):
            subprocess.run(["ip", "netns", "del", space], check=False)


if __name__ == "__main__":
    main()
