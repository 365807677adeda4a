"""LLDP between network namespaces: the collector in one, an lldpd or raw frames in another."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
AS_ROOT = ("setpriv", "--no-new-privs")

# One run for every line that comes; the machine, and with it the listener, stays the same.
PROBE = """
import json, sys
from collectors import lldp
from collectors.run import run
from machine.capture import Captured, Recording
from machine.live import Live
from wire.codec import encode
recording = Recording(Live())
for line in sys.stdin:
    machine = Captured(recording.dump(redact=line.strip() == "redacted")) if line.strip() else recording
    found = run(lldp, machine, 0)
    print(json.dumps([found.status, found.reason, [json.loads(encode(fact)) for fact in found.facts]]), flush=True)
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
    out.bind((sys.argv[1], 0))
    for line in sys.stdin:
        out.send(bytes.fromhex(line))
"""


class Collecting:
    """A process in a namespace that runs the collector when asked."""

    def __init__(self, *into: str) -> None:
        argv = [*into, sys.executable, "-c", PROBE]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def run(self, how: str = "") -> tuple[str, str, list[dict[str, Any]]]:
        """(status, reason, facts) of a run, or of the capture of the last one: "captured", "redacted"."""
        stdin, stdout = cast("IO[str]", self.process.stdin), cast("IO[str]", self.process.stdout)
        stdin.write(f"{how}\n")
        stdin.flush()
        status, reason, facts = json.loads(stdout.readline())
        return status, reason, facts

    def facts(self) -> list[dict[str, Any]]:
        return self.run()[2]

    def until(self, done: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The facts once they are so; fails the test with the last ones otherwise."""
        ends = time.monotonic() + WAIT_S
        while not done(facts := self.facts()):
            assert time.monotonic() < ends, facts
            time.sleep(0.1)
        return facts


def ip(space: str, *words: str) -> str:
    return subprocess.run(["ip", "-n", space, *words], check=True, capture_output=True, text=True).stdout


def mac(space: str, ifname: str) -> str:
    (link,) = json.loads(ip(space, "-j", "link", "show", ifname))
    return str(link["address"])


def end(process: "subprocess.Popen[Any]") -> None:
    with contextlib.suppress(OSError):
        if process.stdin:
            process.stdin.close()
    process.terminate()
    process.wait(timeout=30)


def send(space: str, ifname: str, *frames: bytes) -> None:
    text = "".join(f"{one.hex()}\n" for one in frames)
    argv = ["ip", "netns", "exec", space, sys.executable, "-c", SEND, ifname]
    subprocess.run(argv, input=text, text=True, check=True)


@contextlib.contextmanager
def lldpd(into: list[str], folder: Path, *settings: str) -> Iterator[Path]:
    """An lldpd behind a socket of its own; it speaks every second."""
    if shutil.which("lldpd") is None:
        pytest.skip("lldpd is not installed (Debian package lldpd)")
    name = f"{folder.name}{os.getpid()}"
    conf, socket = folder / f"{name}.conf", folder / f"{name}.sock"
    conf.write_text("\n".join(["configure lldp tx-interval 1", *settings, ""]))
    argv = [*into, *AS_ROOT, "lldpd", "-d", "-u", str(socket), "-O", str(conf), "-I", "ve*"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield socket
    finally:
        end(process)
