"""Real network namespaces of the tests' own, and captured trees of real machines."""

import contextlib
import ctypes
import functools
import itertools
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from machine import UnsupportedError, ethtool
from machine.live import Live

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("RACKHAND_DATA", ROOT.parent / "shared" / "data"))
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()

T = TypeVar("T")
M = TypeVar("M", bound=Live)


class Namespace:
    """One network namespace; `run` calls a function in it, `python` a child process that also sees its /sys."""

    def __init__(self) -> None:
        self.name = f"rhm-{os.getpid()}-{next(_numbers)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def ip(self, *arguments: str) -> str:
        command = ["ip", "-n", self.name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def ip_json(self, *arguments: str) -> Any:
        return json.loads(self.ip("-j", *arguments))

    def ip_batch(self, lines: list[str]) -> None:
        command = ["ip", "-n", self.name, "-batch", "-"]
        subprocess.run(command, input="\n".join(lines), text=True, check=True)

    def ifindex(self, name: str) -> int:
        index: int = self.ip_json("link", "show", name)[0]["ifindex"]
        return index

    def run(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread that entered the namespace."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                with Path(f"/run/netns/{self.name}").open() as handle:
                    refused = ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET)
                assert not refused, os.strerror(ctypes.get_errno())
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def live(self, kind: type[M]) -> M:
        """A machine whose sockets were opened in the namespace."""

        def opened() -> M:
            machine = kind()
            machine.rtnl(18, bytes(16), dump=True)
            machine.family("ethtool")
            machine.family("netdev")
            with contextlib.suppress(UnsupportedError):
                ethtool.read_drvinfo(machine, "lo")
            return machine

        return self.run(opened)

    def python(self, code: str) -> str:
        command = ["ip", "netns", "exec", self.name, sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """An empty namespace, removed afterwards."""
    made = Namespace()
    yield made
    made.close()


@pytest.fixture
def veth(namespace: Namespace) -> Namespace:
    """A namespace with the pair va (4+4 queues) and vb, both up."""
    add = "link add va numtxqueues 4 numrxqueues 4 type veth peer name vb numtxqueues 4 numrxqueues 4"
    namespace.ip(*add.split())
    namespace.ip_batch(["link set va up", "link set vb up"])
    return namespace


@pytest.fixture(scope="session")
def unpack(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks a captured tree of the data folder and returns the folder that holds sys/."""

    @functools.cache
    def unpacked(name: str) -> Path:
        archive = DATA / name
        if not archive.exists():
            pytest.skip(f"captures of real machines are not at {DATA}")
        target = tmp_path_factory.mktemp("tree")
        with tarfile.open(archive) as tree:
            tree.extractall(target, filter="fully_trusted")  # noqa: S202 - a capture we ship, links must stay absolute
        (top,) = {path.parent for path in [*target.glob("sys"), *target.glob("*/sys")]}
        return top

    return unpacked
