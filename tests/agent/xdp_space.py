"""Two namespaces joined by veth: one whose NIC has programs, with bpffs where the agent looks, and the far end."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from agent import pulse
from collectors import xdp as collector
from machine import xdp, xdp_attach
from machine.change import LiveWriter
from tests.agent.space import NIC, ROOT, Space, wait_for
from wire.facts import Xdp
from wire.policy import Request, Value
from wire.report import Sample
from wire.xdp import canonical

T = TypeVar("T")
_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWNET = 0x200, 0x20000, 0x40000000

HERE, FAR, DENIED, OTHER = "10.8.0.1", "10.8.0.2", "10.8.0.66", "10.8.0.70"


class XdpSpace(Space):
    """`va` at 10.8.0.1 here; its peer at 10.8.0.2, .66 and .70, and in fd08::/64, in a namespace of its own."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._children: list[subprocess.Popen[str]] = []
        self.far = f"{self.name}-far"
        subprocess.run(["ip", "netns", "add", self.far], check=True)
        self.ip(f"link set vb netns {self.far}")
        self.ip(f"addr add {HERE}/24 dev {NIC}")
        self.ip(f"addr add fd08::1/64 dev {NIC} nodad")
        self.ip("link set lo up")
        for address in (f"{FAR}/24", f"{DENIED}/24", f"{OTHER}/24", "fd08::2/64 nodad"):
            local, *more = address.split()
            self.there("ip", "addr", "add", local, "dev", "vb", *more)
        self.there("ip", "link", "set", "vb", "up")
        hold = "mount -t bpf bpf /sys/fs/bpf && echo ready && exec sleep infinity"
        self._holder = subprocess.Popen(super().inside("sh", "-c", hold), stdout=subprocess.PIPE)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"ready\n"
        wait_for(lambda: self.pings(FAR), "the two ends see each other")

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-m", "-n", f"--wd={ROOT}", *command]

    def close(self) -> None:
        for run in self.runs:
            run.close()
        self.runs = []
        for child in self._children:
            child.kill()
            child.communicate()
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout
        self._holder.stdout.close()
        subprocess.run(["ip", "netns", "del", self.far], check=True)
        super().close()

    def piped(self, argv: list[str]) -> "subprocess.Popen[str]":
        """A process with text pipes, ended with the namespaces."""
        pipe = subprocess.PIPE
        child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
        self._children.append(child)
        return child

    def holding(self, code: str, *arguments: str) -> None:
        """Python code that runs here until the end."""
        self.piped(self.inside(sys.executable, "-c", code, *arguments))

    def there(self, *command: str) -> str:
        """Run a command at the far end."""
        argv = ["ip", "netns", "exec", self.far, *command]
        return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout

    def pings(self, source: str) -> bool:
        """Whether one echo from the far end, from this address of it, is answered."""
        argv = ["ip", "netns", "exec", self.far, "ping", "-c1", "-W1", "-I", source, HERE]
        return subprocess.run(argv, check=False, capture_output=True).returncode == 0

    def far_python(self, code: str) -> str:
        """What Python code prints at the far end."""
        return self.there(sys.executable, "-c", code)

    def on(self) -> dict[str, Any]:
        """What `ip` says is on the NIC; empty for nothing."""
        found: dict[str, Any] = json.loads(self.ip(f"-d -j link show {NIC}"))[0].get("xdp", {})
        return found

    def pins(self) -> list[str]:
        """Names of ours in bpffs."""
        folder = Path(xdp_attach.FOLDER)
        return self.call(lambda _: sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [])

    def call(self, function: Callable[[LiveWriter], T]) -> T:
        """What a function returns in a thread that entered the holder's namespaces."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._entered, function).result()

    def _entered(self, function: Callable[[LiveWriter], T]) -> T:
        library = ctypes.CDLL(None, use_errno=True)
        handle = os.pidfd_open(self._holder.pid)
        try:
            assert not library.unshare(_CLONE_FS), os.strerror(ctypes.get_errno())
            assert not library.setns(handle, _CLONE_NEWNS | _CLONE_NEWNET), os.strerror(ctypes.get_errno())
        finally:
            os.close(handle)
        with LiveWriter() as writer:
            return function(writer)

    def put(self, *, alive: bool = True, **values: Value) -> None:
        """Make these what is ours on the NIC, as a transaction does, and bring it to life."""
        given: dict[str, Value] = {"mode": "native", "stale_s": 3600, **values}

        def write(writer: LiveWriter) -> None:
            op = Request("xdp", {}, canonical(given), self.ifindex(), NIC)
            xdp_attach.write(writer, op)
            assert xdp.read(writer, op.ifindex) == op.after
            if alive:
                pulse.feed(writer)

        self.call(write)

    def collected(self) -> dict[str, float]:
        """The samples of the collector, by metric."""
        found = self.call(lambda writer: list(collector.collect(writer)))
        return {item.metric: item.value for item in found if isinstance(item, Sample)}

    def fact(self) -> Xdp:
        """The collector's fact about the NIC."""
        found = self.call(lambda writer: list(collector.collect(writer)))
        (fact,) = (item for item in found if isinstance(item, Xdp) and item.ifname == NIC)
        return fact
