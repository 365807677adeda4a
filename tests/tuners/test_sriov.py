"""sriov and vf: sequences of the drivers, what is in use or foreign stays, what VFIO may have."""

from collections.abc import Callable

import pytest

from tuners.hostfacts import HostFacts
from tuners.planner import LATER, plan, project
from wire.facts import Fact, Pci, Virt, VirtFunction
from wire.policy import FileWrite, Mode, Op, OutcomeStatus, Plan, Request, Setting, Value, Values

Make = Callable[..., list[Fact]]
ETH0 = "52:54:00:00:00:03"
PF = "0000:3b:00.0"


def function(number: int, **fields: object) -> VirtFunction:
    told: dict[str, object] = {"link_state": "auto", "trust": False, "spoofchk": True, "driver": "iavf"}
    told["iommu_group"] = 40 + number
    return VirtFunction(index=number, address=f"0000:3b:01.{number}", **{**told, **fields})  # type: ignore[arg-type]


@pytest.fixture
def host(cpus: Make, nic: Make) -> Callable[..., HostFacts]:
    """`host(functions, driver=..., **fields of Virt)`; the functions are ours unless `vfs_owned` says otherwise."""

    def make(vfs: list[VirtFunction], driver: str = "ice", **fields: object) -> HostFacts:
        count = len(vfs)
        known: dict[str, object] = {"vfs_set": count, "vfs_owned": count, "autoprobe": True, "eswitch_mode": "legacy"}
        known |= fields
        fact = Virt(key=ETH0, ifname="eth0", address=PF, vfs_total=8, vfs=vfs, **known)  # type: ignore[arg-type]
        shown = [Pci(key=one.address, driver=one.driver, iommu_group=one.iommu_group) for one in vfs]
        return HostFacts([*cpus(), *nic(driver=driver), fact, *shown])

    return make


def planned(facts: HostFacts, knob: str, **values: Value) -> Plan:
    """The plan, having checked that there is none after it."""
    setting = Setting(knob=knob, nic=ETH0, values=values)
    made = plan([setting], facts)
    assert plan([setting], project(facts, made)).changes == []
    return made


def path(made: Plan) -> list[object]:
    return [_seen(change.op) for change in made.changes]


def _seen(op: Op) -> object:
    assert isinstance(op, (FileWrite, Request))
    if isinstance(op, FileWrite):
        return op.after
    return op.after["vfs"] if op.message == "numvfs" else op.after["mode"]


@pytest.mark.parametrize(
    ("driver", "mode", "values", "expected"),
    [
        ("ice", "legacy", {"vfs": 4}, [4]),
        ("ice", "legacy", {"vfs": 2}, []),
        ("ice", "legacy", {"vfs": "max"}, [8]),
        ("ice", "legacy", {"eswitch": "switchdev"}, [0, "switchdev", 2]),
        ("ice", "legacy", {"eswitch": "switchdev", "vfs": 4}, [0, "switchdev", 4]),
        ("mlx5_core", "legacy", {"eswitch": "switchdev", "vfs": 4}, [4, "switchdev"]),
        ("mlx5_core", "switchdev", {"eswitch": "legacy", "vfs": 4}, ["legacy", 4]),
        ("mlx5_core", "switchdev", {"vfs": 4}, ["legacy", 4, "switchdev"]),
        ("netdevsim", "switchdev", {"vfs": 0}, [0]),
        ("ice", "legacy", {"autoprobe": False}, ["0"]),
        ("ice", "legacy", {"autoprobe": False, "vfs": 3}, [3]),
    ],
)
def test_the_driver_has_its_own_sequence(
    host: Callable[..., HostFacts], driver: str, mode: str, values: Values, expected: list[object]
) -> None:
    facts = host([function(0), function(1)], driver=driver, eswitch_mode=mode)
    made = planned(facts, "sriov", **values)
    assert (path(made), made.skips) == (expected, [])


def test_functions_that_stay_have_what_they_had(host: Callable[..., HostFacts]) -> None:
    had = [function(0, mac="02:00:00:00:00:01", vlan_id=9, vlan_protocol="802.1Q"), function(1, driver="vfio-pci")]
    (change,) = planned(host(had), "sriov", vfs=1).changes
    assert isinstance(change.op, Request)
    word = "vlan=9/0 spoofchk=on trust=off min_tx=0 max_tx=0 link=auto driver=iavf"
    assert change.op.after == {
        **{"vfs": 1, "owned": 1, "autoprobe": True},
        "settings": f"0 mac=02:00:00:00:00:01 {word}",
    }
    assert "; 1 mac=none vlan=0/0" in str(change.op.before["settings"])
    assert str(change.op.before["settings"]).endswith("driver=vfio-pci")


@pytest.mark.parametrize(
    ("used", "owned", "values", "reason"),
    [
        ("held open by qemu (77)", 2, {"vfs": 4}, "virtual function 1 is in use: held open by qemu (77)"),
        ("eth5 is up", 2, {"eswitch": "switchdev"}, "virtual function 1 is in use: eth5 is up"),
        ("eth5 is up", 0, {"vfs": 0, "adopt": True}, "virtual function 1 is in use: eth5 is up"),
        ("", 0, {"vfs": 4}, "its 2 virtual functions are not the agent's: adopt: true takes them over"),
        ("", 1, {"vfs": 0}, "its 2 virtual functions are not the agent's: adopt: true takes them over"),
    ],
)
def test_what_is_used_or_foreign_stays(
    host: Callable[..., HostFacts], used: str, owned: int, values: Values, reason: str
) -> None:
    made = planned(host([function(0), function(1, used=used)], vfs_owned=owned), "sriov", **values)
    assert (made.changes, [one.reason for one in made.skips]) == ([], [reason])
    assert made.skips[0].status is OutcomeStatus.REFUSED


def test_foreign_functions_are_taken_over_when_the_policy_says_so(host: Callable[..., HostFacts]) -> None:
    (change,) = planned(host([function(0), function(1)], vfs_owned=0), "sriov", vfs=1, adopt=True).changes
    assert isinstance(change.op, Request)
    assert (change.op.before["owned"], change.op.after["owned"]) == (0, 1)


@pytest.mark.parametrize(
    ("fields", "values", "reason"),
    [
        ({"vfs_set": None}, {"vfs": 1}, "the driver shares no virtual functions out"),
        ({}, {"vfs": 9}, "9 virtual functions are above the device's 8: its firmware's settings have more"),
        ({"eswitch_mode": ""}, {"eswitch": "switchdev"}, "the NIC has no such switch"),
        ({"driver": "bnxt_en"}, {"eswitch": "switchdev"}, "how bnxt_en changes its mode is not known"),
        ({"autoprobe": None}, {"autoprobe": False}, "the kernel has no such switch for this device"),
    ],
)
def test_what_cannot_be_is_said(
    host: Callable[..., HostFacts], fields: dict[str, object], values: Values, reason: str
) -> None:
    made = planned(host([], **fields), "sriov", **values)
    assert (made.changes, [one.reason for one in made.skips]) == ([], [reason])


def test_settings_wait_until_new_functions_were_read(host: Callable[..., HostFacts]) -> None:
    both = [
        Setting(knob="sriov", nic=ETH0, values={"vfs": 4}),
        Setting(knob="vf", nic=ETH0, values={"functions": "3 trust=on"}),
    ]
    made = plan(both, host([]))
    assert (path(made), [one.reason for one in made.skips]) == ([4], [LATER])


def test_what_the_kernel_takes_together_is_one_request(host: Callable[..., HostFacts]) -> None:
    text = "0 max_tx=100 trust=on vlan=5/2; 1 trust=off"
    made = planned(host([function(0, min_tx_mbps=10), function(1)]), "vf", functions=text)
    ops = [change.op for change in made.changes if isinstance(change.op, Request)]
    assert [op.after for op in ops] == [
        {"vlan_id": 5, "vlan_qos": 2, "vlan_protocol": "802.1Q"},
        {"trust": True},
        {"min_tx_mbps": 10, "max_tx_mbps": 100},
    ]
    assert {op.item for op in ops} == {f"pci/{PF}#0"}


@pytest.mark.parametrize(
    ("one", "text", "reason"),
    [
        ({}, "5 trust=on", "there are 1 virtual functions: sriov has their number"),
        ({"trust": None}, "0 trust=on", "the driver does not tell trust"),
        ({"used": "eth5 is up"}, "0 mac=02:00:00:00:00:09", "it is in use: eth5 is up"),
        ({"used": "held open by qemu (7)"}, "0 driver=none", "it is in use: held open by qemu (7)"),
        ({"iommu_group": None}, "0 driver=vfio-pci", "it has no IOMMU group"),
        ({"iommu_group": 50}, "0 driver=vfio-pci", "it shares IOMMU group 50 with 0000:3b:00.0 (ice)"),
    ],
)
def test_a_function_that_cannot_have_it(
    host: Callable[..., HostFacts], one: dict[str, object], text: str, reason: str
) -> None:
    facts = host([function(0, **one)]).replace([Pci(key=PF, driver="ice", iommu_group=50)])
    made = planned(facts, "vf", functions=text)
    assert made.changes == []
    assert [skip.reason.startswith(reason) for skip in made.skips] == [True], made.skips


def test_functions_of_one_group_go_together(host: Callable[..., HostFacts]) -> None:
    facts = host([function(0, iommu_group=50), function(1, iommu_group=50)])
    assert planned(facts, "vf", functions="0 driver=vfio-pci").changes == []
    made = planned(facts, "vf", functions="0-1 driver=vfio-pci")
    assert [change.op.item for change in made.changes if isinstance(change.op, Request)] == [
        "0000:3b:01.0",
        "0000:3b:01.1",
    ]


def test_the_hosts_own_driver_is_that_of_the_physical_one(host: Callable[..., HostFacts]) -> None:
    (change,) = planned(host([function(0, driver="vfio-pci")]), "vf", functions="0 driver=host").changes
    assert isinstance(change.op, Request)
    assert change.op.after == {"driver": "iavf", "driver_override": ""}


def test_a_warned_setting_changes_nothing_for_the_knobs_after_it(host: Callable[..., HostFacts]) -> None:
    both = [
        Setting(knob="sriov", nic=ETH0, values={"vfs": 4}, mode=Mode.WARN),
        Setting(knob="vf", nic=ETH0, values={"functions": "0 trust=on"}),
    ]
    assert len(plan(both, host([function(0)])).changes) == 2
