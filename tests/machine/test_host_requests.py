"""Requests about the host itself: pages that come or do not, threads that move, units that are gone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from machine import MachineError, VanishedError, hugepages, requests, systemd
from machine.change import LiveWriter
from wire.cpulist import format_cpulist
from wire.policy import Request, Values

POOL = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"


class Pool(LiveWriter):
    """A node that has room for some pages, and for more after each compaction; some of them are in use."""

    def __init__(self, root: Path, room: int, gain: int = 0, used: int = 0, available_kb: int = 1 << 20) -> None:
        super().__init__(str(root))
        self.file, self.room, self.gain, self.used = root / POOL, room, gain, used
        self.file.parent.mkdir(parents=True)
        self.file.write_text("0\n")
        (root / "proc").mkdir()
        (root / "proc/meminfo").write_text(f"MemTotal: 4194304 kB\nMemAvailable:    {available_kb} kB\n")
        self.compactions = 0

    def write(self, path: str, text: str) -> None:
        if path.endswith("/compact"):
            self.compactions += 1
            self.room += self.gain
        else:
            self.file.write_text(f"{max(self.used, min(int(text), self.room))}\n")


def back(op: Request) -> Request:
    return structs.replace(op, before=op.after, after=op.before)


def pages(count: int, reserve_kb: int = 1024) -> Request:
    values: list[Values] = [{"pages": number, "reserve_kb": reserve_kb} for number in (0, count)]
    return Request(message="hugepages", before=values[0], after=values[1], item="node0/2048kB")


def test_all_pages_come_at_once_or_after_a_compaction(tmp_path: Path) -> None:
    pool = Pool(tmp_path, room=100, gain=50)
    hugepages.write(pool, pages(100))
    assert (requests.read(pool, pages(100)), pool.compactions) == ({"pages": 100, "reserve_kb": 1024}, 0)
    hugepages.write(pool, pages(140))
    assert (hugepages.read_pages(pool, "node0/2048kB"), pool.compactions) == (140, 1)


def test_a_request_that_is_half_met_says_how_many_came(tmp_path: Path) -> None:
    pool = Pool(tmp_path, room=100)
    with pytest.raises(MachineError, match=r"^node0/2048kB: 100 of 200 pages came, 2 compactions included$"):
        hugepages.write(pool, pages(200))
    hugepages.write(pool, back(pages(200)))
    assert hugepages.read_pages(pool, "node0/2048kB") == 0


def test_nothing_is_asked_for_that_would_eat_the_reserve(tmp_path: Path) -> None:
    pool = Pool(tmp_path, room=1000)
    with pytest.raises(MachineError, match=r"900 MiB are to be left$"):
        hugepages.write(pool, pages(100, reserve_kb=900 << 10))
    assert hugepages.read_pages(pool, "node0/2048kB") == 0


def test_pages_in_use_stay_and_are_counted(tmp_path: Path) -> None:
    pool = Pool(tmp_path, room=100, used=30)
    hugepages.write(pool, pages(50))
    with pytest.raises(MachineError, match=r"20 pages more than the 10 asked for are in use$"):
        hugepages.write(pool, pages(10))


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of two threads that waits for the end of its input."""
    program = "import sys, threading; threading.Thread(target=sys.stdin.read).start(); print('up', flush=True)"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        assert process.stdin
        process.stdin.close()


def threads(live: LiveWriter, pid: int, start: str = "") -> Request:
    """All threads of the process from where they are to the lowest of these CPUs."""
    allowed = live.read(f"/proc/{pid}/status").partition("Cpus_allowed_list:")[2].split()[0]
    ids = live.names(f"/proc/{pid}/task")
    start = start or live.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]
    lowest = allowed.replace(",", "-").split("-")[0]
    return Request(
        message="threads",
        before=dict.fromkeys(ids, allowed),
        after=dict.fromkeys(ids, lowest),
        item=f"{pid}:{start}:python",
    )


def test_threads_move_and_come_back(child: "subprocess.Popen[bytes]") -> None:
    with LiveWriter() as live:
        op = threads(live, child.pid)
        assert len(op.before) == 2
        assert requests.read(live, op) == op.before
        live.request(op)
        assert requests.read(live, op) == op.after
        live.request(back(op))
        assert requests.read(live, back(op)) == op.before


def test_a_pid_that_is_somebody_elses_now_is_not_touched(child: "subprocess.Popen[bytes]") -> None:
    with LiveWriter() as live:
        op, other = threads(live, child.pid), threads(live, child.pid, start="1")
        live.request(other)
        assert requests.read(live, op) == op.before
        assert requests.read(live, other) == other.after, "nothing is left to do for who has ended"


def test_cpus_that_are_not_there_are_an_error(child: "subprocess.Popen[bytes]") -> None:
    with LiveWriter() as live:
        op = threads(live, child.pid)
        absent = Request(message="threads", before=op.before, after=dict.fromkeys(op.before, "8000"), item=op.item)
        with pytest.raises(MachineError, match="to CPUs 8000"):
            live.request(absent)
        assert requests.read(live, op) == op.before


class Systemd(LiveWriter):
    """A tree of cgroups beside a systemd that says one thing."""

    def __init__(self, root: Path, says: str) -> None:
        super().__init__(str(root))
        self.says = says

    def command(self, name: str, *words: str) -> str:
        assert (name, words[0], words[-1]) == ("systemctl", "show", "app.slice")
        return self.says


def unit(after: str) -> Request:
    return Request(message="unit", before={"AllowedCPUs": ""}, after={"AllowedCPUs": after}, item="/app.slice")


def test_a_units_cpus_are_its_cgroups_else_what_systemd_would_give(tmp_path: Path) -> None:
    machine = Systemd(tmp_path, "LoadState=loaded\nAllowedCPUs=0 2-3\n")
    assert systemd.read(machine, unit("1")) == {"AllowedCPUs": "0,2-3"}
    folder = tmp_path / "sys/fs/cgroup/app.slice"
    folder.mkdir(parents=True)
    assert systemd.read(machine, unit("1")) == {"AllowedCPUs": ""}
    (folder / "cpuset.cpus").write_text("4-5\n")
    assert systemd.read(machine, unit("1")) == {"AllowedCPUs": format_cpulist([4, 5])}


def test_a_unit_that_systemd_forgot_has_vanished(tmp_path: Path) -> None:
    with pytest.raises(VanishedError, match=r"^app\.slice is gone$"):
        systemd.read(Systemd(tmp_path, "LoadState=not-found\nAllowedCPUs=\n"), unit("1"))
