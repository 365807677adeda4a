"""The agent as a service of a real systemd: ready, killed, stopped in the middle of a change; its dead-man, killed."""

import re
import shlex
import sqlite3
from typing import Any

import pytest

from hardware_lab.install import UNIT
from tests.lab.conftest import MANY, Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
POLICY = MANY + "confirm_within_s: 900\n"
# In the guest: as soon as the first change is there, stop the service; the transaction may be frozen before
STOPPER = """
until ethtool -g {ifname} | grep -A4 Current | grep -q 1024; do sleep 0.02; done
[ {frozen} = no ] || pkill -STOP -f '^[^ ]*python[^ ]* -m agent.transaction'
systemctl stop {unit}
echo done > /root/stopped
"""
LOOK = """
ethtool -l {ifname}; ethtool -g {ifname}; ethtool -c {ifname} | grep -v Adaptive
for irq in $(awk -F: '/{ifname}/{{print $1+0}}' /proc/interrupts); do
    echo $(ls /proc/irq/$irq | grep {ifname}) $(cat /proc/irq/$irq/smp_affinity_list)
done | sort
"""
TRANSACTION = "pgrep -f '^[^ ]*python[^ ]* -m agent.transaction' || true"
DEADMEN = "systemctl list-units --plain --no-legend --state=active 'rackhand-deadman-*' | cut -d' ' -f1"
LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) rackhand[a-z.]*: \S.*")


def shown(bench: Bench, unit: str, *names: str) -> dict[str, str]:
    """Properties that systemd has of a unit."""
    text = bench.guest.run(f"systemctl show {unit} -p {','.join(names)}")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def streams(bench: Bench) -> list[tuple[int, str, int]]:
    """(acknowledged up to, what is in beyond that, rows that will never come) of each spool, from the inventory."""
    path = bench.lab.folder / "inventory" / "rackhand.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return list(db.execute("SELECT acked, beyond, gaps FROM stream"))


def look(bench: Bench, ifname: str) -> str:
    return bench.guest.run(LOOK.format(ifname=ifname))


def texts(bench: Bench, kind: str) -> list[str]:
    told: list[dict[str, Any]] = bench.lab.ask("events", "-n", "1000") or []
    return [event["text"] for event in told if event["kind"] == kind]


def test_it_is_ready_when_systemd_says_so_and_says_how_it_is(loop: Bench) -> None:
    names = ("Type", "ActiveState", "SubState", "NRestarts", "StatusText", "MainPID")
    now = shown(loop, UNIT, *names)
    assert (now["Type"], now["ActiveState"], now["SubState"], now["NRestarts"]) == ("notify", "active", "running", "0")
    assert now["StatusText"] == "managing, connected to 10.0.2.100:1883"
    loop.lab.stop_inventory()
    wait_for(lambda: "not connected to" in shown(loop, UNIT, "StatusText")["StatusText"], "it says that it is alone")
    print(shown(loop, UNIT, "StatusText"))

    lines = loop.guest.run(f"journalctl -o cat -u {UNIT} _PID={now['MainPID']}").splitlines()
    assert any("connected to 10.0.2.100:1883, MQTT" in line for line in lines)
    assert [line for line in lines if not LINE.fullmatch(line)] == [], "one line each, with its level and its part"

    pss = loop.guest.run(f"awk '/^Pss:|^Rss:/{{print $1, $2}}' /proc/{now['MainPID']}/smaps_rollup").split()
    memory = shown(loop, UNIT, "MemoryCurrent", "CPUUsageNSec", "TasksCurrent")
    print(dict(zip(pss[::2], pss[1::2], strict=True)), "KiB;", memory)
    assert int(pss[pss.index("Pss:") + 1]) < 64 << 10


def test_killed_it_comes_back_as_the_same_and_loses_nothing(loop: Bench) -> None:
    host_id = loop.host()["host_id"]
    loop.lab.stop_inventory()
    wait_for(lambda: "not connected to" in shown(loop, UNIT, "StatusText")["StatusText"], "the broker is gone")
    for restarts in (1, 2):
        ifname = f"during{restarts}"
        loop.guest.run(f"ip link add {ifname} type dummy")
        wait_for(lambda name=ifname: spooled(loop, f"{name} is new"), "kept while nobody listens")  # type: ignore[misc]
        loop.guest.run(f"systemctl kill --kill-who=main -s KILL {UNIT}")
        wait_for(lambda: shown(loop, UNIT, "NRestarts")["NRestarts"] == str(restarts), "systemd starts it again")  # noqa: B023
        wait_for(lambda: shown(loop, UNIT, "SubState")["SubState"] == "running", "and it is ready")
    loop.lab.start_inventory()
    wait_for(lambda: len(texts(loop, "agent.started")) == 3, "each start is told")
    wait_for(lambda: {"during1 is new", "during2 is new"} <= set(texts(loop, "link.added")), "what was kept is told")
    assert loop.host()["host_id"] == host_id
    assert len(loop.lab.ask("hosts")) == 1
    wait_for(lambda: all(beyond == "" for _, beyond, _ in streams(loop)), "every row is in")
    assert [gaps for _, _, gaps in streams(loop)] == [0]
    print(streams(loop))


def spooled(bench: Bench, text: str) -> bool:
    """Whether it is in the agent's spool or its log, on disk."""
    return bench.guest.attempt(f"grep -aq {shlex.quote(text)} /var/lib/rackhand/spool.db*").returncode == 0


@pytest.mark.parametrize("frozen", ["no", "yes"])
def test_stopped_in_the_middle_of_a_change(loop: Bench, frozen: str) -> None:
    ifname = loop.nic(0)
    loop.guest.run(f"ip link set {ifname} up")
    before = look(loop, ifname)
    stopper = STOPPER.format(ifname=ifname, frozen=frozen, unit=UNIT)
    loop.guest.run("cat > /root/stopper; setsid sh /root/stopper >/dev/null 2>&1 </dev/null &", stdin=stopper.encode())
    loop.apply(POLICY.format(ifname=ifname))
    wait_for(lambda: "done" in loop.guest.run("cat /root/stopped 2>/dev/null || true"), "the service stopped")
    assert shown(loop, UNIT, "ActiveState")["ActiveState"] == "inactive"
    if frozen == "yes":
        outlives(loop)
    wait_for(lambda: loop.journals() == ["reverted"], f"undone: {loop.journals()}")
    assert look(loop, ifname) == before
    wait_for(lambda: not loop.guest.run(DEADMEN).split(), "the dead-man is done")

    loop.guest.run(f"systemctl start {UNIT}", timeout_s=300)
    loop.wait_status("applied")  # the document stands, and nothing of it had failed: it is tried again


def outlives(bench: Bench) -> None:
    """The dead-man is there without the service, and once more when it is killed; then the transaction is."""
    assert bench.journals() == ["open"]
    assert bench.guest.run(TRANSACTION).split()
    (unit,) = bench.guest.run(DEADMEN).split()
    first = shown(bench, unit, "MainPID", "Restart")
    assert first["Restart"] == "on-failure"
    bench.guest.run(f"systemctl kill -s KILL {unit}")
    wait_for(lambda: shown(bench, unit, "NRestarts")["NRestarts"] == "1", "systemd starts the dead-man again")
    wait_for(lambda: shown(bench, unit, "ActiveState")["ActiveState"] == "active", "and it watches")
    assert shown(bench, unit, "MainPID")["MainPID"] != first["MainPID"]
    assert bench.journals() == ["open"], "a transaction that lives is left alone"
    bench.guest.run("pkill -KILL -f '^[^ ]*python[^ ]* -m agent.transaction'")
