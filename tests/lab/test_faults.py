"""Every fault of the table: it is really there, it ends, and the closed loop goes on as if nothing had been."""

import contextlib
import itertools
import re
import sqlite3
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hardware_lab import cage, faults
from hardware_lab.failure import LabError
from hardware_lab.install import UNIT
from tests.lab import test_errors
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.soak]
# A look at the server in three parts: before the fault; while it lasts; after its end.
Look = Iterator[None]
OURS, ITS = "10.77.0.1", "10.77.0.2"  # ends of the first NIC's wire
HALF_HOUR_MS = 1_800_000
NUMBERS = itertools.count()
# In the guest: whether the broker answers a client that introduces itself.
HELLO = r"""
import socket
with socket.create_connection(("10.0.2.100", 1883), 10) as broker:
    broker.settimeout(5)
    broker.sendall(bytes.fromhex("100d00044d5154540402003c000174"))
    try:
        said = broker.recv(4)
    except TimeoutError:
        said = None
    except ConnectionError:
        said = b""
print("hangs" if said is None else "answers" if said[:1] == b"\x20" else "is gone")
"""
SPOOL = """
import sqlite3
spool = sqlite3.connect("file:/var/lib/rackhand/spool.db?mode=ro", uri=True)
print(*spool.execute("SELECT count(*), coalesce(max(seq), 0) FROM rows").fetchone())
"""


def sql(bench: Bench, query: str) -> list[tuple[Any, ...]]:
    """Rows of the inventory's database."""
    path = bench.lab.folder / "inventory" / "rackhand.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def number(bench: Bench, command: str) -> int:
    return int(bench.guest.run(command))


def link_events(bench: Bench, ifname: str) -> list[str]:
    """What the inventory was told of a link, oldest first."""
    told = bench.lab.ask("events", "-n", "1000") or []
    return [event["kind"] for event in told if event["data"].get("ifname") == ifname]


def new_link(bench: Bench) -> str:
    """Something happens in the guest that the agent tells of."""
    ifname = f"new{next(NUMBERS)}"
    bench.guest.run(f"ip link add {ifname} type dummy")
    return ifname


def newest(bench: Bench) -> int:
    """When the newest run of the load collector was, by the host's clock in ms."""
    ((at_ms,),) = sql(bench, "SELECT at_ms FROM collector_state WHERE collector = 'load'")
    return int(at_ms)


def pings(bench: Bench, address: str = ITS, *, count: int = 30) -> tuple[int, float]:
    """Answers from the server over its first data NIC, and their median delay in ms."""
    argv = bench.lab.wires.inside("ping", "-c", str(count), "-i", "0.03", "-W", "2", address)
    return answered(subprocess.run(argv, check=False, capture_output=True, text=True).stdout)


def answered(said: str) -> tuple[int, float]:
    delays = sorted(float(word) for word in re.findall(r"time=([\d.]+) ms", said))
    return len(delays), delays[len(delays) // 2] if delays else 0.0


def is_well(bench: Bench) -> None:
    """The agent runs, its host is online, what happens now is in the inventory, and no row was lost on the way."""
    assert bench.guest.run(f"systemctl is-active {UNIT}").strip() == "active"
    ifname = new_link(bench)
    wait_for(lambda: "link.added" in link_events(bench, ifname), "what happens after the fault")
    wait_for(lambda: bench.host()["online"], "the host online")
    ((gaps,),) = sql(bench, "SELECT sum(gaps) FROM stream")
    assert gaps == 0


# -- the server --------------------------------------------------------------------------------------------------------


def birth(bench: Bench) -> tuple[str, str, str, str]:
    """Host, start, boot and spool as the inventory knows them."""
    ((host_id, start, boot_id, epoch),) = sql(bench, "SELECT host_id, start, boot_id, epoch FROM host")
    return host_id, start, boot_id, epoch


def look_agent_kill(bench: Bench) -> Look:
    before = birth(bench)
    yield
    wait_for(lambda: number(bench, f"systemctl show -P NRestarts {UNIT}") == 1, "systemd started it again")
    wait_for(lambda: birth(bench)[1] != before[1], "a new start")
    host_id, _, boot_id, epoch = birth(bench)
    assert (host_id, boot_id, epoch) == (before[0], before[2], before[3])
    yield


def look_power_cut(bench: Bench) -> Look:
    before = birth(bench)
    bench.guest.run("echo lost > /root/not-synced")
    yield
    bench.vm.wait_ready()
    boot_id = bench.guest.read("/proc/sys/kernel/random/boot_id").strip()
    assert boot_id != before[2]
    assert bench.guest.run("cat /root/not-synced 2>/dev/null || true") == ""
    wait_for(lambda: birth(bench)[2] == boot_id, "the new boot in the inventory")
    host_id, start, _, epoch = birth(bench)
    assert (host_id, epoch) == (before[0], before[3])
    assert start != before[1]
    yield


def look_disk_full(bench: Bench) -> Look:
    pid = number(bench, f"systemctl show -P MainPID {UNIT}")
    yield
    assert number(bench, "df --output=avail / | tail -1") == 0
    assert bench.guest.attempt(f"echo x > {faults.STATE}/more && sync").returncode != 0

    def told() -> bool:
        new_link(bench)
        return "disk is full" in bench.guest.run(f"journalctl -o cat -u {UNIT}")

    wait_for(told, "the agent says that it cannot store")
    assert number(bench, f"systemctl show -P MainPID {UNIT}") == pid
    yield
    assert number(bench, "df --output=avail / | tail -1") > 0
    new_link(bench)
    wait_for(lambda: "spool.gap" in bench.events(), "what was lost is told")
    assert number(bench, f"systemctl show -P MainPID {UNIT}") == pid


def look_clock(bench: Bench, ahead_s: int) -> Look:
    right = newest(bench)

    def is_off(at_ms: int) -> bool:
        return abs(at_ms - right - ahead_s * 1000) < HALF_HOUR_MS

    yield
    wait_for(lambda: is_off(newest(bench)), "a report by the wrong clock")
    first = newest(bench)
    wait_for(lambda: newest(bench) > first, "and the next")
    yield
    wait_for(lambda: abs(newest(bench) - right) < HALF_HOUR_MS, "a report by the right clock")
    assert sql(bench, "SELECT collector FROM collector_state WHERE duration_ms < 0") == []
    negative = "SELECT metric FROM sample JOIN series ON series.id = series_id WHERE value < 0"
    assert sql(bench, negative) == []


# -- its NICs ----------------------------------------------------------------------------------------------------------


def wired(bench: Bench) -> str:
    """The first data NIC up, with addresses on both ends of its wire; its name."""
    ifname = bench.nic(0)
    bench.guest.run(f"ip addr replace {ITS}/24 dev {ifname} && ip link set {ifname} up")
    bench.lab.wires.address("data", f"{OURS}/24")
    wait_for(lambda: pings(bench, count=1)[0] == 1, "the server answers on its wire")
    return ifname


def look_cable_pull(bench: Bench) -> Look:
    ifname = wired(bench)
    wait_for(lambda: "link.up" in link_events(bench, ifname), "the link up, in the inventory")
    yield
    wait_for(lambda: number(bench, f"cat /sys/class/net/{ifname}/carrier") == 0, "no carrier")
    wait_for(lambda: link_events(bench, ifname)[-1] == "link.down", "the inventory told")
    assert pings(bench, count=3)[0] == 0
    yield
    wait_for(lambda: link_events(bench, ifname)[-1] == "link.up", "the inventory told of the end")
    assert pings(bench, count=3)[0] > 0


def look_link_flap(bench: Bench) -> Look:
    ifname = wired(bench)
    changes = f"cat /sys/class/net/{ifname}/carrier_changes"
    before, told = number(bench, changes), len(link_events(bench, ifname))
    yield
    wait_for(lambda: number(bench, changes) == before + 2, "both changes")
    wait_for(lambda: link_events(bench, ifname)[told:] == ["link.down", "link.up"], "both in the inventory")
    yield


def look_wire_loss(bench: Bench) -> Look:
    wired(bench)
    yield
    answers, _ = pings(bench, count=200)  # 140 expected; five sigma is 33
    print(f"{answers} of 200 answers")
    assert 100 < answers < 175
    yield
    assert pings(bench)[0] == 30


def look_wire_delay(bench: Bench) -> Look:
    wired(bench)
    _, before = pings(bench)
    yield
    answers, during = pings(bench)
    print(f"{before} ms, delayed {during} ms")
    assert answers == 30
    assert during >= faults.DELAY_MS
    yield
    assert pings(bench)[1] < during


def look_nic_unplug(bench: Bench) -> Look:
    ifname, mac = wired(bench), bench.vm.server.mac(0)

    def inventoried() -> bool:
        return any(fact["kind"] == "nic" and fact["key"] == mac for fact in bench.facts())

    assert inventoried()
    yield
    assert bench.nic(0) == ""
    wait_for(lambda: not inventoried(), "gone from the inventory")
    assert "link.removed" in link_events(bench, ifname)
    yield
    wait_for(lambda: bench.nic(0) == ifname, "the same name again")
    wait_for(inventoried, "in the inventory again")
    wired(bench)


def look_eeprom_corrupt(bench: Bench) -> Look:
    ifname = bench.nic(0)

    def sums() -> tuple[int, int]:
        """CC_BASE of SFF-8472 as it is, and as it should be."""
        base = bytes.fromhex(bench.guest.run(f"ethtool -m {ifname} raw on length 64 | od -An -v -tx1"))
        return base[63], sum(base[:63]) & 0xFF

    yield
    said, right = sums()
    assert said != right
    assert "LABOPTIC" not in bench.guest.run(f"ethtool -m {ifname}")
    yield
    said, right = sums()
    assert said == right
    assert "LABOPTIC" in bench.guest.run(f"ethtool -m {ifname}")


# -- what is around it -------------------------------------------------------------------------------------------------


def spooled(bench: Bench) -> tuple[int, int]:
    """Rows that wait in the agent's spool, and the newest row's number."""
    count, seq = bench.python(SPOOL).split()
    return int(count), int(seq)


def api_answers(bench: Bench) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{bench.lab.settings.api}/api/v1/hosts", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def look_broker(bench: Bench, it: str) -> Look:
    """What is seen while the broker is gone waits, and is all in the inventory afterwards."""
    pid = number(bench, f"systemctl show -P MainPID {UNIT}")
    assert bench.python(HELLO).strip() == "answers"
    yield
    assert bench.python(HELLO).strip() == it
    assert not api_answers(bench)
    seen: list[str] = []

    def waiting() -> bool:
        seen.append(new_link(bench))
        return spooled(bench)[0] >= 10

    wait_for(waiting, "rows that wait")
    last = spooled(bench)[1]
    yield
    wait_for(lambda: sql(bench, "SELECT acked FROM stream")[0][0] >= last, "all rows that waited")
    assert [link_events(bench, ifname) for ifname in seen] == [["link.added"]] * len(seen)
    assert number(bench, f"systemctl show -P MainPID {UNIT}") == pid
    wait_for(lambda: api_answers(bench), "the API answers")


def look_broker_slow(bench: Bench) -> Look:
    def delay() -> float:
        return answered(bench.guest.run("ping -c 30 -i 0.03 10.0.2.2"))[1]

    before = delay()
    yield
    during = delay()
    print(f"{before} ms, delayed {during} ms")
    assert during > faults.DELAY_MS / 5  # QEMU's own network answers at once: it is late one way, by 0 to the whole
    ifname = new_link(bench)
    wait_for(lambda: link_events(bench, ifname) == ["link.added"], "what happens meanwhile")
    yield
    assert delay() < during


def ipmi(bench: Bench, words: str) -> str:
    """What ipmitool says in the guest, "" when it fails."""
    done = bench.guest.attempt(f"ipmitool {words} 2>/dev/null")
    return "" if done.returncode else done.stdout.decode()


def look_bmc(bench: Bench) -> Look:
    wait_for(lambda: ipmi(bench, "mc info"), "the BMC inside")
    yield
    assert ipmi(bench, "mc info") == ""
    with pytest.raises(LabError):
        bench.bmc.run("mc", "info")
    yield
    wait_for(lambda: ipmi(bench, "mc info"), "the BMC inside again")
    assert "Firmware Revision" in bench.bmc.run("mc", "info")


def look_sensor_gone(bench: Bench) -> Look:
    def reading() -> str:
        return next(line for line in ipmi(bench, "sdr").splitlines() if line.startswith(faults.SENSOR))

    wait_for(lambda: ipmi(bench, "sdr"), "the BMC inside")
    before = reading()
    assert before.endswith("| ok")
    yield
    wait_for(lambda: reading().endswith("| ns"), "no reading")
    yield
    wait_for(lambda: reading() == before, "the reading again")


# -- all of them -------------------------------------------------------------------------------------------------------

LOOKS: dict[str, dict[str, Callable[[Bench], Look]]] = {  # those of one line share a boot
    "wire": {
        "cable-pull": look_cable_pull,
        "link-flap": look_link_flap,
        "wire-loss": look_wire_loss,
        "wire-delay": look_wire_delay,
        "eeprom-corrupt": look_eeprom_corrupt,
        "nic-unplug": look_nic_unplug,
    },
    "clock": {
        "clock-forward": partial(look_clock, ahead_s=faults.HOUR_S),
        "clock-back": partial(look_clock, ahead_s=-faults.HOUR_S),
    },
    "broker": {
        "broker-slow": look_broker_slow,
        "broker-down": partial(look_broker, it="is gone"),
        "broker-hang": partial(look_broker, it="hangs"),
    },
    "bmc": {"sensor-gone": look_sensor_gone, "bmc-hang": look_bmc, "bmc-kill": look_bmc},
    "server": {"agent-kill": look_agent_kill, "disk-full": look_disk_full, "power-cut": look_power_cut},
}


def test_every_fault_is_exercised() -> None:
    assert sorted(itertools.chain(*LOOKS.values(), test_errors.FAULTS)) == sorted(faults.ALL)


@pytest.mark.parametrize("group", LOOKS)
def test_a_fault_is_there_and_ends(loop: Bench, group: str) -> None:
    for kind, look in LOOKS[group].items():
        print(kind)
        fault, seen = faults.ALL[kind], look(loop)
        next(seen)
        fault.begin(loop.lab, loop.vm)
        try:
            next(seen)
        finally:
            if fault.end:
                fault.end(loop.lab, loop.vm)
        assert next(seen, None) is None
        is_well(loop)


def test_a_fault_ends_though_it_never_began_and_begins_twice(loop: Bench) -> None:
    """People type these: the second `fault srv1 wire-delay` is no error, nor is an `--end` too many."""
    for kind in ("wire-loss", "wire-delay", "broker-slow", "cable-pull", "disk-full", "eeprom-corrupt", "sensor-gone"):
        fault = faults.ALL[kind]
        assert fault.end
        for call in (fault.end, fault.begin, fault.begin, fault.end, fault.end):
            call(loop.lab, loop.vm)
    assert wired(loop)
    assert pings(loop)[0] == 30
    assert "LABOPTIC" in loop.guest.run(f"ethtool -m {loop.nic(0)}")
    assert cage.reads(loop.guest, loop.nic(0)) > 0
    is_well(loop)
