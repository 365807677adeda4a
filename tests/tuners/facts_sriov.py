"""Virtual functions and firmware of made-up NICs, and values for their knobs."""

from collections.abc import Sequence

from hypothesis import strategies as st

from tuners import firmware, sriov
from tuners.hostfacts import HostFacts
from wire.facts import Bmc, Fact, Firmware, Nic, Pci, Virt, VirtFunction
from wire.policy import Change, FileWrite, Request, Value, Values
from wire.vf import Settings, format_vfs, parse_vfs

SHA = "5" * 64
CHOICES: dict[str, st.SearchStrategy[Value]] = {
    "mac": st.just(""),
    "vlan_id": st.integers(1, 4094),
    "max_tx_mbps": st.integers(0, 1000),
    "spoofchk": st.booleans(),
    "link_state": st.sampled_from(["auto", "enable", "disable"]),
    "driver": st.sampled_from(["iavf", "vfio-pci", ""]),
}


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Settings of up to four functions."""
    asked: dict[int, Settings] = {}
    for number in draw(st.sets(st.integers(0, 5), min_size=1, max_size=4)):
        asked[number] = draw(st.fixed_dictionaries({"trust": st.booleans()}, optional=CHOICES))
        if "vlan_id" in asked[number]:
            asked[number] |= {"vlan_qos": 0, "vlan_protocol": "802.1Q"}
    return format_vfs(asked)


SPEC_VALUES: dict[str, dict[str, st.SearchStrategy[Value]]] = {
    "sriov": {
        "vfs": st.just("max") | st.integers(0, 9),
        "autoprobe": st.booleans(),
        "eswitch": st.sampled_from(["legacy", "switchdev"]),
        "adopt": st.booleans(),
    },
    "vf": {"functions": texts(), "unsafe_noiommu": st.booleans()},
    "passthrough": {
        "devices": st.sampled_from(["0000:90:00.0", "0000:90:00.1", "0000:90:00.0 0000:90:00.1"]),
        "driver": st.sampled_from(["vfio-pci", "ixgbe"]),
        "unsafe_noiommu": st.booleans(),
    },
    "firmware": {
        **dict.fromkeys(("version", "former_version"), st.sampled_from(["1.0", "2.0"])),
        **dict.fromkeys(("file", "former"), st.sampled_from(["/root/a.bin", "/root/b.bin"])),
        **dict.fromkeys(("sha256", "former_sha256"), st.just(SHA)),
        "unknown_power": st.booleans(),
    },
}


@st.composite
def facts_of(draw: st.DrawFn, made: Sequence[Fact]) -> list[Fact]:
    """A NIC's virtual functions, some in use, and its firmware."""
    (nic,) = (fact for fact in made if isinstance(fact, Nic))
    address = f"0000:3b:{nic.ifindex:02x}.0"
    nic.address = address
    count = draw(st.integers(0, 4))
    vfs = [
        VirtFunction(
            index=number,
            address=f"0000:3b:{nic.ifindex:02x}.{number + 1}",
            driver=draw(st.sampled_from(["iavf", "vfio-pci", ""])),
            iommu_group=draw(st.sampled_from([None, 40 + number])),
            trust=draw(st.sampled_from([None, True, False])),
            spoofchk=draw(st.sampled_from([None, True, False])),
            link_state=draw(st.sampled_from(["", "auto", "disable"])),
            used=draw(st.sampled_from(["", "", "", "its interface is up"])),
        )
        for number in range(count)
    ]
    fact = Virt(
        key=nic.key,
        ifname=nic.ifname,
        address=address,
        vfs_total=draw(st.integers(max(count, 1), 8)),
        vfs=vfs,
        vfs_set=count,
        vfs_owned=draw(st.sampled_from([0, count])),
        autoprobe=draw(st.sampled_from([None, True, False])),
        # where functions come and go on the way to another mode one thing changes twice: test_sriov has those
        eswitch_mode="" if nic.driver in ("ice", "mlx5_core") else draw(st.sampled_from(["", "legacy", "switchdev"])),
    )
    running, stored = draw(st.sampled_from(["1.0", "2.0"])), draw(st.sampled_from(["", "1.0", "2.0"]))
    part = Firmware(key=f"nic/{address}", type="nic", device=address, running=running, stored=stored)
    return [fact, part, Bmc(power=draw(st.sampled_from(["", "on"])))]


@st.composite
def others(draw: st.DrawFn) -> list[Fact]:
    """Two PCI functions without an interface, of one IOMMU group or of none."""
    group = draw(st.sampled_from([None, 90]))
    drivers = st.sampled_from(["", "vfio-pci", "nvme"])
    return [
        Pci(key=f"0000:90:00.{number}", class_id="010802", driver=draw(drivers), iommu_group=group)
        for number in range(2)
    ]


def current(facts: HostFacts, change: Change) -> object:
    """What the facts say of the thing a change of these knobs is about; None for a change of another knob."""
    op = change.op
    if isinstance(op, FileWrite):
        return _autoprobe(facts, change) if op.path.endswith(sriov.AUTOPROBE) else None
    if not isinstance(op, Request) or op.message not in _CURRENT:
        return None
    return _CURRENT[op.message](facts, change, op)


def _autoprobe(facts: HostFacts, change: Change) -> str:
    return str(int(bool(sriov.virts(facts)[change.nic].autoprobe)))


def _numvfs(facts: HostFacts, change: Change, op: Request) -> Values:
    fact = sriov.virts(facts)[change.nic]
    known = {one.index: sriov.told(one) for one in fact.vfs}
    assert all(known[number] == asked for number, asked in parse_vfs(str(op.before["settings"])).items())
    now: Values = {"vfs": fact.vfs_set or 0, "settings": op.before["settings"], "owned": fact.vfs_owned}
    return now if fact.autoprobe is None else {**now, "autoprobe": fact.autoprobe}


def _eswitch(facts: HostFacts, change: Change, op: Request) -> Values:
    return {**op.before, "mode": sriov.virts(facts)[change.nic].eswitch_mode}


def _vf(facts: HostFacts, change: Change, op: Request) -> Values:
    number = int(op.item.rpartition("#")[2])
    known = next(sriov.told(one) for one in sriov.virts(facts)[change.nic].vfs if one.index == number)
    return {name: known[name] for name in op.before}


def _driver(facts: HostFacts, change: Change, op: Request) -> Values:
    drivers = {one.address: one.driver for fact in facts.of(Virt) for one in fact.vfs}
    drivers |= {one.key: one.driver for one in facts.of(Pci)}
    return {"driver": drivers[op.item], "driver_override": ""}


def _flash(facts: HostFacts, change: Change, op: Request) -> Values:
    found = firmware.find(facts, facts.nics[change.nic], op.item.partition("#")[2])
    assert found is not None
    return {**op.before, "version": found.stored or found.running}


_CURRENT = {"numvfs": _numvfs, "eswitch": _eswitch, "vf": _vf, "driver": _driver, "flash": _flash}
