"""XDP `acl` beside nftables' ingress hook: the same packets dropped by the same 1,000 prefixes, natively on veth.

The kernel itself sends frames through the pair (BPF_PROG_TEST_RUN with live frames), so that no sender's stack is
measured. The receiving NAPI is a thread: what the scheduler says it ran for, over what was dropped, is the cost of a
packet, whatever else the machine does. The two take turns.
"""

import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent import pulse
from machine import bpf, xdp, xdp_attach
from machine.change import LiveWriter
from wire.policy import Request
from wire.xdp import NOTHING, canonical

AIM, ROUNDS, WINDOW_S, PREFIXES = 3.0, 7, 1.0, 1000
NEAR, FAR, NIC, PEER = f"rhb{os.getpid()}", f"rhb{os.getpid()}-far", "benchx", "benchy"
SOURCE, HERE = "10.50.3.7", "10.49.0.1"
_BATCH = 1 << 18  # frames per system call of the sender


def main() -> None:
    """Print what a dropped packet costs each way, and the ratio beside the aim."""
    if not shutil.which("nft"):
        sys.exit("nftables is not installed")
    for space in (NEAR, FAR):
        subprocess.run(["ip", "netns", "add", space], check=True)
    try:
        one = "numrxqueues 1 numtxqueues 1"
        pair = f"link add {NIC} {one} type veth peer name {PEER} {one} netns {FAR}"
        subprocess.run(["ip", "-n", NEAR, *pair.split()], check=True)
        for space, nic in ((NEAR, NIC), (FAR, PEER)):
            subprocess.run(["ip", "-n", space, "link", "set", nic, "up"], check=True)
        argv = [sys.executable, "-m", "bench.xdp", "measure", FAR]
        subprocess.run(["ip", "netns", "exec", NEAR, *argv], check=True)
    finally:
        for space in (NEAR, FAR):
            subprocess.run(["ip", "netns", "del", space], check=True)


def prefixes() -> list[str]:
    """1,000 networks, one of them the sender's."""
    return [f"10.{50 + at // 250}.{at % 250}.0/24" for at in range(PREFIXES)]


def generate(mac: str) -> None:
    """Send one frame for ever through the far end, to this MAC."""
    own = Path(f"/sys/class/net/{PEER}/address").read_text().strip()
    ethernet = bytes.fromhex(mac.replace(":", "") + own.replace(":", "")) + b"\x08\0"
    addresses = socket.inet_aton(SOURCE) + socket.inet_aton(HERE)
    frame = ethernet + struct.pack(">BBHHHBBH", 0x45, 0, 46, 1, 0, 64, 17, 0) + addresses
    frame += struct.pack(">HHHH", 9, 9, 26, 0) + bytes(18)
    steps = ((0xB7, 1, socket.if_nametoindex(PEER)), (0xB7, 2, 0), (0x85, 0, 23), (0x95, 0, 0))  # redirect(peer, 0)
    program = bpf.load(b"".join(struct.pack("<BBhi", code, to, 0, value) for code, to, value in steps), "send", "GPL")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        bpf.run_live(program, frame, _BATCH)


def _threads() -> list[Path]:
    """The receiving threads, on a CPU that the sender does not use."""
    found = [path.parent for path in Path("/proc").glob("[0-9]*/comm") if path.read_text().startswith(f"napi/{NIC}")]
    for path in found:
        os.sched_setaffinity(int(path.name), {max(os.sched_getaffinity(0))})
    return found


def _ran_ns() -> int:
    return sum(int((path / "schedstat").read_text().split()[0]) for path in _threads())


def window(dropped: Callable[[], int]) -> tuple[float, float]:
    """CPU nanoseconds per dropped packet, and packets dropped per second."""
    ran, count, began = _ran_ns(), dropped(), time.monotonic()
    time.sleep(WINDOW_S)
    packets, took = dropped() - count, time.monotonic() - began
    return (_ran_ns() - ran) / max(1, packets), packets / took


def _by_xdp(writer: LiveWriter) -> tuple[float, float]:
    ifindex = socket.if_nametoindex(NIC)
    rules = ", ".join(f"deny {prefix}" for prefix in prefixes())
    wanted = canonical({"programs": "acl", "mode": "native", "stale_s": 3600, "acl": rules, "acl_default": "allow"})
    xdp_attach.write(writer, Request("xdp", {}, wanted, ifindex, NIC))
    pulse.feed(writer)
    program = xdp.read_attached_to(writer, ifindex).program
    found = window(lambda: int(writer.xdp(program)["stats"].get("acl_denied", [0])[0]))
    xdp_attach.write(writer, Request("xdp", {}, dict(NOTHING), ifindex, NIC))
    return found


def _by_nftables() -> tuple[float, float]:
    elements = ", ".join(prefixes())
    table = (
        f"table netdev bench {{\nset deny {{ type ipv4_addr; flags interval; elements = {{ {elements} }} }}\n"
        f"chain in {{ type filter hook ingress device {NIC} priority 0; ip saddr @deny counter drop; }}\n}}"
    )
    subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)

    def dropped() -> int:
        said = subprocess.run(["nft", "-j", "list", "chain", "netdev", "bench", "in"], check=True, capture_output=True)
        (rule,) = (part["rule"] for part in json.loads(said.stdout)["nftables"] if "rule" in part)
        return next(int(one["counter"]["packets"]) for one in rule["expr"] if "counter" in one)

    found = window(dropped)
    subprocess.run(["nft", "delete", "table", "netdev", "bench"], check=True)
    return found


def measure(far: str) -> None:
    """Both ways in turns, where the NIC is; prints medians and the ratio."""
    subprocess.run(["ethtool", "-K", NIC, "gro", "on"], check=True)
    Path(f"/sys/class/net/{NIC}/threaded").write_text("1")
    mac = Path(f"/sys/class/net/{NIC}/address").read_text().strip()
    argv = ["ip", "netns", "exec", far, sys.executable, "-m", "bench.xdp", "generate", mac]
    sender = subprocess.Popen(argv)
    ways: dict[str, list[tuple[float, float]]] = {"xdp acl": [], "nftables ingress": []}
    try:
        with LiveWriter() as writer:
            for _ in range(ROUNDS):
                ways["xdp acl"].append(_by_xdp(writer))
                ways["nftables ingress"].append(_by_nftables())
    finally:
        sender.kill()
        sender.wait()
    for name, found in ways.items():
        cost, rate = (statistics.median(values) for values in zip(*found, strict=True))
        print(
            f"  {name:<18} {cost:7.1f} ns of CPU per drop, {1e3 / cost:6.2f} M/s per core; {rate / 1e6:5.2f} M/s seen"
        )
    pairs = [nft[0] / ours[0] for ours, nft in zip(*ways.values(), strict=True)]
    print(f"  drop rate per core, xdp over nftables: {statistics.median(pairs):.1f} x (aim {AIM:g}), pairs", end=" ")
    print(", ".join(f"{pair:.1f}" for pair in sorted(pairs)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["generate"]:
        generate(sys.argv[2])
    else:
        measure(sys.argv[2])
