"""XDP `acl` beside nftables' ingress hook: the same packets dropped by the same 1,000 prefixes, natively on veth.

The kernel itself sends frames through the pair (BPF_PROG_TEST_RUN with live frames), so that no sender's stack is
measured; what is received is handled on the sender's CPU, as its soft interrupt. What the scheduler says the sender ran
for, over what was dropped, less what sending alone takes, is the cost of a packet, whatever else the machine does. The
two take turns.
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


def _frame(to: str, own: str) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 46, 1, 0, 64, 17, 0) + socket.inet_aton(SOURCE) + socket.inet_aton(HERE)
    ethernet = bytes.fromhex(to.replace(":", "") + own.replace(":", "")) + b"\x08\0"
    return ethernet + head + struct.pack(">HHHH", 9, 9, 26, 0) + bytes(18)


def _code(*steps: tuple[int, int, int]) -> bytes:
    """Instructions of opcode, register and value."""
    return b"".join(struct.pack("<BBhi", opcode, register, 0, value) for opcode, register, value in steps)


def generate(mac: str) -> None:
    """Send one frame for ever through the far end, to this MAC."""
    redirect = _code((0xB7, 1, socket.if_nametoindex(PEER)), (0xB7, 2, 0), (0x85, 0, 23), (0x95, 0, 0))
    program = bpf.load(redirect, "send", "GPL")
    frame = _frame(mac, Path(f"/sys/class/net/{PEER}/address").read_text().strip())
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        bpf.run_live(program, frame, _BATCH)


def _alone() -> float:
    """CPU nanoseconds per frame of the sender alone, whose frames go nowhere."""
    program = bpf.load(_code((0xB7, 0, 1), (0x95, 0, 0)), "alone", "GPL")  # return XDP_DROP
    began = time.thread_time_ns()
    bpf.run_live(program, _frame("02:00:00:00:00:01", "02:00:00:00:00:02"), _BATCH)
    return (time.thread_time_ns() - began) / _BATCH


def window(sender: int, dropped: Callable[[], int]) -> tuple[float, float]:
    """CPU nanoseconds of the sending process per dropped packet, and packets dropped per second."""
    ran, count, began = _ran_ns(sender), dropped(), time.monotonic()
    time.sleep(WINDOW_S)
    packets, took = dropped() - count, time.monotonic() - began
    return (_ran_ns(sender) - ran) / max(1, packets), packets / took


def _ran_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _by_xdp(writer: LiveWriter, sender: int) -> tuple[float, float]:
    ifindex = socket.if_nametoindex(NIC)
    rules = ", ".join(f"deny {prefix}" for prefix in prefixes())
    wanted = canonical({"programs": "acl", "mode": "native", "stale_s": 3600, "acl": rules, "acl_default": "allow"})
    xdp_attach.write(writer, Request("xdp", {}, wanted, ifindex, NIC))
    pulse.feed(writer)
    program = xdp.read_attached_to(writer, ifindex).program
    found = window(sender, lambda: int(writer.xdp(program)["stats"].get("acl_denied", [0])[0]))
    xdp_attach.write(writer, Request("xdp", {}, dict(NOTHING), ifindex, NIC))
    return found


def _by_nftables(sender: int) -> tuple[float, float]:
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

    found = window(sender, dropped)
    subprocess.run(["nft", "delete", "table", "netdev", "bench"], check=True)
    return found


def measure(far: str) -> None:
    """Both ways in turns, where the NIC is; prints medians and the ratio."""
    subprocess.run(["ethtool", "-K", NIC, "gro", "on"], check=True)
    mac = Path(f"/sys/class/net/{NIC}/address").read_text().strip()
    argv = ["ip", "netns", "exec", far, sys.executable, "-m", "bench.xdp", "generate", mac]
    sender = subprocess.Popen(argv)
    alone: list[float] = []
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    try:
        with LiveWriter() as writer:
            for _ in range(ROUNDS):
                alone.append(_alone())
                ours.append(_by_xdp(writer, sender.pid))
                theirs.append(_by_nftables(sender.pid))
    finally:
        sender.kill()
        sender.wait()
    _tell(statistics.median(alone), ours, theirs)


def _tell(alone: float, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> None:
    print(f"  {'sending alone':<18} {alone:7.1f} ns of CPU per packet")
    for name, found in (("xdp acl", ours), ("nftables ingress", theirs)):
        cost, rate = (statistics.median(values) for values in zip(*found, strict=True))
        own = cost - alone
        print(
            f"  {name:<18} {own:7.1f} ns more, {1e3 / own:5.2f} M/s per core; with the sender {rate / 1e6:.2f} M/s seen"
        )
    pairs = sorted((nft[0] - alone) / (xdp_[0] - alone) for xdp_, nft in zip(ours, theirs, strict=True))
    print(f"  drop rate per core, xdp over nftables: {statistics.median(pairs):.1f} x (aim {AIM:g})", end="; pairs ")
    print(", ".join(f"{pair:.1f}" for pair in pairs))


if __name__ == "__main__":
    if sys.argv[1:2] == ["generate"]:
        generate(sys.argv[2])
    else:
        measure(sys.argv[2])
