"""The resident agent beside node_exporter, collectd and netdata: PSS and CPU, on this box, in one run."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import procs
from bench.listener import SampleCount, free_port
from collectors.registry import ALL
from collectors.run import run
from machine.live import Live

WARM_S, WINDOW_S, EVERY_S = 25.0, 60.0, 10.0

COLLECTD = """
Interval {every}
BaseDir "{state}"
PIDFile "{state}/pid"
PluginDir "/usr/lib/collectd"
TypesDB "/usr/share/collectd/types.db"
{plugins}
<Plugin csv>
  DataDir "{state}/csv"
</Plugin>
"""
COLLECTD_PLUGINS = (
    "csv", "cpu", "cpufreq", "contextswitch", "df", "disk", "ethstat", "interface", "irq", "load", "memory", "numa",
    "processes", "swap", "uptime", "vmem",
)  # fmt: skip
NETDATA = """
[global]
  run as user = root
[directories]
  cache = {state}/cache
  lib = {state}/lib
  log = {state}/log
[db]
  mode = ram
[web]
  bind to = 127.0.0.1:{port}
[registry]
  enabled = no
[plugins]
  cgroups = no
[cloud]
  enabled = no
"""


class Peer(NamedTuple):
    """A started collector: its process, how to count its samples, how often it makes them."""

    process: subprocess.Popen[bytes]
    samples: Callable[[], int]  # of one collection
    every_s: float


def start(argv: list[str], log: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A child with its output in a file."""
    with log.open("wb") as out:
        return subprocess.Popen(
            argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}
        )


def fetch(url: str) -> str:
    """The body of a page on loopback."""
    with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own loopback address
        return str(reply.read().decode())


def lines(text: str) -> int:
    """Exposition lines that carry a number."""
    return sum(1 for line in text.splitlines() if line and not line.startswith("#"))


def node_exporter(state: Path) -> Peer:
    """Scraped every 10 s, as Prometheus would."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    process = start(["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"], state / "log")
    wait_for_port(port)
    return Peer(process, lambda: lines(fetch(url)), EVERY_S)


def collectd(state: Path) -> Peer:
    """Fifteen plugins about the same subjects, into CSV files."""
    plugins = "\n".join(f"LoadPlugin {name}" for name in COLLECTD_PLUGINS)
    config = state / "collectd.conf"
    config.write_text(COLLECTD.format(every=int(EVERY_S), state=state, plugins=plugins))
    process = start(["collectd", "-f", "-C", str(config)], state / "log")

    def samples() -> int:
        files = [path for path in (state / "csv").rglob("*") if path.is_file()]
        return sum(path.read_text().splitlines()[-1].count(",") for path in files)

    return Peer(process, samples, EVERY_S)


def netdata(state: Path) -> Peer:
    """As Debian ships it, memory mode ram, one second."""
    port = free_port()
    for name in ("cache", "lib", "log"):
        (state / name).mkdir()
    config = state / "netdata.conf"
    config.write_text(NETDATA.format(state=state, port=port))
    process = start(["netdata", "-D", "-c", str(config)], state / "log.txt")
    return Peer(process, lambda: lines(fetch(f"http://127.0.0.1:{port}/api/v1/allmetrics?format=prometheus")), 1.0)


def agent(state: Path) -> Peer:
    """`rackhand-agent run` against a Mosquitto of its own; acks are given by the counter of what it sends.

    What did not move is collected and compared, and not sent: its samples are those that the collectors yield here.
    """
    port = free_port()
    broker = start(["mosquitto", "-p", str(port)], state / "broker.log")
    wait_for_port(port)
    count = SampleCount(port)
    argv = [sys.executable, "-m", "agent.cli", "run", "--broker", f"127.0.0.1:{port}", "--state", str(state / "agent")]
    process = start(argv, state / "log")

    helpers[process.pid] = (broker, count)
    return Peer(process, collected, EVERY_S)


def collected() -> int:
    """Samples that all collectors together take in `EVERY_S`, each at its own interval."""
    now_ms = time.time_ns() // 1_000_000
    with contextlib.closing(Live()) as machine:
        taken = {collector: len(run(collector, machine, now_ms).samples) for collector in ALL}
    return round(sum(count * EVERY_S / collector.EVERY_S for collector, count in taken.items()))


helpers: dict[int, tuple[subprocess.Popen[bytes], SampleCount]] = {}

PEERS: dict[str, Callable[[Path], Peer]] = {
    "rackhand-agent": agent,
    "node_exporter": node_exporter,
    "collectd": collectd,
    "netdata": netdata,
}


def wait_for_port(port: int) -> None:
    """Until something listens, 10 s at most."""
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on 127.0.0.1:{port}")


@contextlib.contextmanager
def running() -> Iterator[dict[str, Peer]]:
    """All peers at once, so that they see the same box; stopped by pid."""
    base = Path(tempfile.mkdtemp(prefix="rackhand-bench-"))
    peers: dict[str, Peer] = {}
    try:
        for name, make in PEERS.items():
            (base / name).mkdir()
            peers[name] = make(base / name)
        yield peers
    finally:
        for peer in peers.values():
            stop(peer.process)
        for broker, count in helpers.values():
            count.close()
            stop(broker)
        helpers.clear()
        shutil.rmtree(base, ignore_errors=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate, then kill, one child of ours."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def scrape_for(seconds: float, peers: dict[str, Peer]) -> None:
    """Let time pass, scraping node_exporter as Prometheus would (the others push)."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        peers["node_exporter"].samples()
        time.sleep(min(EVERY_S, left))


def main() -> None:
    """Print one row per collector and the ratios to the agent."""
    with running() as peers:
        scrape_for(WARM_S, peers)
        before = {name: procs.usage(peer.process.pid) for name, peer in peers.items()}
        started = time.monotonic()
        scrape_for(WINDOW_S, peers)
        window = time.monotonic() - started
        after = {name: procs.usage(peer.process.pid) for name, peer in peers.items()}
        rows = {name: row(peers[name], before[name], after[name], window) for name in peers}
        sent = helpers[peers["rackhand-agent"].process.pid][1].of_newest_cycle(EVERY_S)
    print(f"{WINDOW_S:.0f} s window after {WARM_S:.0f} s; CPU of one core; a sample is one number")
    heads = ("", "PSS MiB", "anon MiB", "CPU %", "samples", "every s", "us/sample", "PSS ratio", "CPU ratio")
    print(f"{heads[0]:16}" + "".join(f"{head:>11}" for head in heads[1:]))
    ours = rows["rackhand-agent"]
    for name, numbers in rows.items():
        ratios = (ours[0] / numbers[0], ours[5] / numbers[5])
        print(f"{name:16}" + "".join(f"{number:11.2f}" for number in (*numbers, *ratios)))
    print("ratios: rackhand-agent / peer, PSS and CPU per sample; below 1 is better than the peer")
    print(f"rackhand-agent sent {sent} of its samples in an interval: those that moved")


def row(
    peer: Peer, before: procs.Usage, after: procs.Usage, window: float
) -> tuple[float, float, float, int, float, float]:
    """PSS MiB, anonymous MiB, CPU %, samples of a collection, its interval s, CPU us per sample."""
    used = after.cpu_s - before.cpu_s
    samples = peer.samples()
    made = samples * window / peer.every_s
    return after.pss_mib, after.anon_mib, 100 * used / window, samples, peer.every_s, 1e6 * used / made


if __name__ == "__main__":
    main()
