"""What the agent says of a machine against the kernel's own tools there; any machine, by RACKHAND_MACHINE.

RACKHAND_MACHINE_BIN is the folder of `rackhand-agent` there (the lab's by default), RACKHAND_NIC the NIC to tune.
"""

import json
import os
import re
from collections.abc import Iterable
from typing import Any

import pytest

from hardware_lab.guest import Guest
from tests.lab.conftest import Bench
from wire.cpulist import parse_cpulist

pytestmark = [pytest.mark.lab, pytest.mark.root]
BIN = os.environ.get("RACKHAND_MACHINE_BIN", "/opt/rackhand/bin")
# ethtool's words, where they are not the kernel's
COUNTS = {
    "RX": "rx",
    "RX Mini": "rx_mini",
    "RX Jumbo": "rx_jumbo",
    "TX": "tx",
    "Other": "other",
    "Combined": "combined",
}
FRAMES = re.compile(r"^(rx|tx)_frames")
FEATURES = {
    "rx-checksumming": "rx-checksum",
    "generic-segmentation-offload": "tx-generic-segmentation",
    "generic-receive-offload": "rx-gro",
    "large-receive-offload": "rx-lro",
    "rx-vlan-offload": "rx-vlan-hw-parse",
    "tx-vlan-offload": "tx-vlan-hw-insert",
    "ntuple-filters": "rx-ntuple-filter",
    "receive-hashing": "rx-hashing",
}
LINE = re.compile(r"^([A-Za-z -]+):\s+(\d+)$", re.MULTILINE)
FEATURE = re.compile(r"^\s*([a-z0-9-]+): (on|off)( \[fixed\])?", re.MULTILINE)
MANAGEMENT = """
from agent import guard
from collectors.run import collect_facts
from machine.live import Live
nics = {fact.key: fact for fact in collect_facts(Live(), ["nic"])}
print(*guard.management(Live(), nics))
"""
# All that could differ after a change and its rollback
LOOK = """
ethtool -c {ifname}; ethtool -g {ifname}; ethtool -l {ifname}; ethtool -k {ifname}; ethtool -a {ifname}
ip -o link show {ifname}; grep -H . /sys/class/net/{ifname}/queues/*/[rx]ps_cpus
for irq in $(ls /sys/class/net/{ifname}/device/msi_irqs 2>/dev/null); do
    echo $irq $(cat /proc/irq/$irq/smp_affinity_list 2>/dev/null)
done
"""
POLICY = """
name: harmless
nics: ["ifname={ifname}"]
knobs:
  {knob}: {{{name}: {value}}}
"""


@pytest.fixture
def once(machine: Guest) -> dict[str, Any]:
    """All that one run of every collector found."""
    found: dict[str, Any] = json.loads(machine.run(f"{BIN}/rackhand-agent once -o json", timeout_s=300))
    return found


def of_kind(once: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Facts of a kind, by interface where they have one, else by key."""
    return {fact.get("ifname", fact.get("key", kind)): fact for fact in once["facts"] if fact["kind"] == kind}


def physical(once: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: nic for name, nic in of_kind(once, "nic").items() if nic.get("type") == "physical"}


def tool(machine: Guest, command: str) -> str:
    """What a tool says, "" where it says that there is no such thing."""
    done = machine.attempt(f"LC_ALL=C {command}")
    return done.stdout.decode() if done.returncode == 0 else ""


def counted(text: str) -> dict[str, int]:
    """`ethtool -l` or `-g` in the fact's words."""
    limits, _, current = text.partition("Current hardware settings")
    found = {COUNTS[word]: int(number) for word, number in LINE.findall(current) if word in COUNTS}
    return found | {f"{COUNTS[word]}_max": int(number) for word, number in LINE.findall(limits) if word in COUNTS}


def test_every_collector_ran(once: dict[str, Any]) -> None:
    assert {name: run["reason"] for name, run in once["collectors"].items() if run["status"] == "failed"} == {}
    assert physical(once)


def test_links_are_as_ip_says(machine: Guest, once: dict[str, Any]) -> None:
    links = {link["ifname"]: link for link in json.loads(machine.run("ip -d -j link"))}
    assert of_kind(once, "nic").keys() == links.keys()
    assert physical(once).keys() == set(machine.run("cd /sys/class/net; ls -d */device | cut -d/ -f1").split())
    for name, nic in physical(once).items():
        link = links[name]
        said = (link["address"], link["mtu"], link["operstate"].lower(), "UP" in link["flags"], link.get("master", ""))
        assert (nic["mac"], nic["mtu"], nic["operstate"], nic.get("up", False), nic.get("master", "")) == said
        assert nic.get("perm_mac", "") in (link.get("permaddr", link["address"]), "")
        assert nic.get("altnames", []) == link.get("altnames", [])


def test_drivers_are_as_ethtool_says(machine: Guest, once: dict[str, Any]) -> None:
    for name, nic in physical(once).items():
        said = dict(line.split(": ", 1) for line in tool(machine, f"ethtool -i {name}").splitlines() if ": " in line)
        assert nic["driver"] == said["driver"]
        assert nic.get("firmware", "") in (said.get("firmware-version", "").strip(), "")
        if nic.get("bus") == "pci":
            assert nic["address"] == said["bus-info"]
        speed = re.search(r"Speed: (\d+)Mb/s", tool(machine, f"ethtool {name}"))
        assert nic.get("speed_mbps") == (int(speed[1]) if speed else None)


def test_rings_channels_and_coalescing_are_as_ethtool_says(machine: Guest, once: dict[str, Any]) -> None:
    for name in physical(once):
        fact = of_kind(once, "ethtool")[name]
        for option, field in (("-g", "rings"), ("-l", "channels")):
            said = counted(tool(machine, f"ethtool {option} {name}"))
            have = {
                key: value for key, value in fact.get(field, {}).items() if key.removesuffix("_max") in COUNTS.values()
            }
            # ethtool says 0 of what the driver does not have where the kernel says nothing, and the other way round
            assert {key: value for key, value in said.items() if value} == {
                key: value for key, value in have.items() if value
            }, (name, field)
        coalesce = fact.get("coalesce", {})
        for word, number in LINE.findall(tool(machine, f"ethtool -c {name}")):
            key = FRAMES.sub(r"\1_max_frames", word.replace("-", "_"))
            if int(number) and key in coalesce:
                assert coalesce[key] == int(number), (name, word)
        assert bool(coalesce) == bool(LINE.findall(tool(machine, f"ethtool -c {name}"))), name


def test_offloads_are_as_ethtool_says(machine: Guest, once: dict[str, Any]) -> None:
    for name in physical(once):
        fact = of_kind(once, "ethtool")[name]
        said = {
            FEATURES.get(word, word): (state, fixed)
            for word, state, fixed in FEATURE.findall(tool(machine, f"ethtool -k {name}"))
        }
        both = said.keys() & fact["features"].keys()
        assert len(both) > 40
        for word in both:
            state, fixed = said[word]
            assert (fact["features"][word], word in fact["features_fixed"]) == (state == "on", bool(fixed)), (
                name,
                word,
            )


def test_cpus_and_nodes_are_as_lscpu_and_numactl_say(machine: Guest, once: dict[str, Any]) -> None:
    cpu = of_kind(once, "cpu")["cpu"]
    rows = [
        list(map(number, line.split(",")))
        for line in machine.run("lscpu -p=CPU,NODE,SOCKET,CORE").splitlines()
        if line[0] != "#"
    ]
    assert [(one["id"], one.get("node")) for one in cpu["cpus"]] == [(row[0], row[1]) for row in rows]
    assert cpu["threads"] == len(rows)
    assert cpu["packages"] == len({row[2] for row in rows})
    cores = sets((tuple(row[2:]), row[0]) for row in rows)
    assert cpu["cores"] == len(cores)
    assert {frozenset(parse_cpulist(one["siblings"])) for one in cpu["cpus"]} == cores
    said = {field["field"]: field["data"] for field in flat(json.loads(machine.run("lscpu -J"))["lscpu"])}
    assert cpu["model"] in (said["Model name:"], *[said[key] for key in said if "Model name" in key])

    nodes = {fact["node"]: fact for fact in once["facts"] if fact["kind"] == "numa"}
    hardware = tool(machine, "numactl -H")
    for at, cpus in re.findall(r"^node (\d+) cpus: ?(.*)$", hardware, re.MULTILINE):
        assert parse_cpulist(nodes[int(at)].get("cpus", "")) == list(map(int, cpus.split()))
    for at, size in re.findall(r"^node (\d+) size: (\d+) MB$", hardware, re.MULTILINE):
        assert abs(nodes[int(at)]["memory_kb"] / 1024 - int(size)) <= 1
    for at, row in re.findall(r"^\s+(\d+):\s+([\d ]+)$", hardware, re.MULTILINE):
        assert list(nodes[int(at)]["distances"].values()) == list(map(int, row.split()))


def number(word: str) -> int | None:
    return int(word) if word else None


def sets(pairs: Iterable[tuple[object, int | None]]) -> set[frozenset[int | None]]:
    """The CPUs of each core."""
    found: dict[object, set[int | None]] = {}
    for core, cpu in pairs:
        found.setdefault(core, set()).add(cpu)
    return {frozenset(cpus) for cpus in found.values()}


def flat(fields: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for field in fields:
        yield field
        yield from flat(field.get("children", []))


def test_interrupts_are_as_the_kernel_lists_them(machine: Guest, once: dict[str, Any]) -> None:
    header, *lines = machine.read("/proc/interrupts").splitlines()
    cpus = len(header.split())
    names = {line.split(":")[0].strip(): line.split()[1 + cpus :] for line in lines}
    nics, found = physical(once), of_kind(once, "irq")
    for name, fact in found.items():
        assert fact["source"] in ("netdev-genl", "action-name", "unmapped")
        for queue in fact["queues"]:
            words = names[str(queue["irq"])]
            assert queue["name"] in " ".join(words), name
            assert queue["cpus"] == machine.read(f"/proc/irq/{queue['irq']}/smp_affinity_list").strip()
        if fact["source"] != "unmapped":
            for way in ("rx", "tx"):
                served = sorted(one for queue in fact["queues"] for one in queue.get(way, []))
                assert served == sorted(set(served)), f"{name}: a queue has one interrupt"
                assert set(served) <= set(range(nics[name].get(f"{way}_queues", 0))), name
    up = {name for name, nic in nics.items() if nic.get("up") and nic.get("bus") in ("pci", "virtio")}
    assert up <= found.keys(), "a NIC that is up has interrupts"


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterable[bool]:
    """Whether the agent's broker is ours: the lab's is started, a real machine has its own or none."""
    if os.environ.get("RACKHAND_MACHINE"):
        yield False
        return
    bench: Bench = request.getfixturevalue("server")
    bench.lab.stop_inventory()
    bench.lab.start_inventory()
    yield True
    bench.lab.stop_inventory(forget=True)


def test_the_doctor_finds_nothing_wrong(machine: Guest, broker: bool) -> None:
    done = machine.attempt(f"{BIN}/rackhand-agent doctor -o json", timeout_s=300)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    failed = {name: check["text"] for name, check in checks.items() if check["verdict"] == "failed"}
    if not broker:
        failed.pop("reach the broker", None)
    assert failed == {}
    assert broker <= (done.returncode == 0)
    for name in ("read rtnetlink", "read ethtool netlink", "change NICs", "write irq files", "state directory"):
        assert checks[name]["verdict"] == "ok", name
    print({name: (check["verdict"], check["text"]) for name, check in checks.items()})


def test_a_change_and_its_rollback_leave_a_nic_as_it_was(machine: Guest, once: dict[str, Any]) -> None:
    path = machine.run(f"{BIN}/python -", stdin=MANAGEMENT.encode(), timeout_s=300).split()
    ifname, knob, name, value = harmless(once, path)
    state = machine.run("mktemp -d").strip()
    try:
        machine.run(
            f"cat > {state}/policy.yaml", stdin=POLICY.format(ifname=ifname, knob=knob, name=name, value=value).encode()
        )
        before = machine.run(LOOK.format(ifname=ifname) + "true")
        agent = f"RACKHAND_OBSERVE=false {BIN}/rackhand-agent"
        said = machine.run(f"{agent} apply {state}/policy.yaml --yes --state {state}/agent", timeout_s=300)
        assert "applied" in said
        now: dict[str, Any] = json.loads(machine.run(f"{BIN}/rackhand-agent once -o json", timeout_s=300))
        assert of_kind(now, "ethtool")[ifname][knob][name] == value
        said = machine.run(f"{agent} rollback --yes --state {state}/agent", timeout_s=300)
        assert "reverted" in said
        assert machine.run(LOOK.format(ifname=ifname) + "true") == before
        print(f"{ifname}: {knob} {name} = {value} and back")
    finally:
        machine.run(f"rm -rf {state}")


def harmless(once: dict[str, Any], path: list[str]) -> tuple[str, str, str, int]:
    """A NIC that is not on the management path, and what to change of it: (ifname, knob, name, value)."""
    named = os.environ.get("RACKHAND_NIC")
    for name, nic in physical(once).items():
        fact = of_kind(once, "ethtool")[name]
        if nic["key"] in path or (named and name != named):
            continue
        if "rx_usecs" in fact.get("coalesce", {}):
            return name, "coalesce", "rx_usecs", 48 if fact["coalesce"]["rx_usecs"] != 48 else 64
        rings = fact.get("rings", {})
        if rings.get("rx_max", 0) >= 1024:
            return name, "rings", "rx", 1024 if rings["rx"] != 1024 else 512
    raise AssertionError(f"no NIC to tune: set RACKHAND_NIC; on the management path are {path}")
