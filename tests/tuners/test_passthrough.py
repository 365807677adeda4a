"""passthrough: whole IOMMU groups go, what the host uses stays, and what is held open is not taken back."""

import pytest

from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from wire.facts import Fact, Nic, Passthrough, Pci, Virt, VirtFunction
from wire.policy import OutcomeStatus, Plan, Request, Setting, Value

ONE, OTHER = "0000:90:00.0", "0000:90:00.1"


def port(address: str = ONE, *, up: bool = False, ifname: str = "eth9", master: str = "") -> Nic:
    return Nic(key=f"key-{ifname}", ifname=ifname, ifindex=9, type="physical", address=address, up=up, master=master)


def network(address: str = ONE, group: int | None = 12, driver: str = "ice") -> Pci:
    return Pci(key=address, class_id="020000", driver=driver, iommu_group=group)


def planned(facts: list[Fact], **values: Value) -> Plan:
    setting = Setting(knob="passthrough", values={"devices": ONE, **values})
    made = plan([setting], HostFacts(facts))
    assert plan([setting], project(HostFacts(facts), made)).changes == []
    return made


def test_an_idle_function_goes_and_its_interface_with_it() -> None:
    made = planned([network(), port()])
    (change,) = made.changes
    assert isinstance(change.op, Request)
    assert (change.op.item, change.op.before) == (ONE, {"driver": "ice", "driver_override": ""})
    assert change.op.after == {"driver": "vfio-pci", "driver_override": ""}
    assert project(HostFacts([network(), port()]), made).nics == {}


def test_a_group_goes_whole_or_not_at_all() -> None:
    facts: list[Fact] = [network(), network(OTHER), port(), port(OTHER, ifname="eth8")]
    alone = planned(facts)
    assert (alone.changes, alone.skips[0].status) == ([], OutcomeStatus.FAILED)
    assert alone.skips[0].reason == f"it shares IOMMU group 12 with {OTHER} (ice), which would have to go too"
    assert len(planned(facts, devices=f"{ONE}, {OTHER}").changes) == 2
    assert len(planned([network(), network(OTHER, driver="vfio-pci"), port()]).changes) == 1


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ([], "there is no such PCI function, or it is a bridge"),
        ([network(group=None), port()], "it has no IOMMU group"),
        ([network(), port(up=True)], "eth9 is up"),
        ([network(), port(master="bond0")], "eth9 is part of another interface"),
        ([network(), port(), Nic(key="v", ifname="v", ifindex=3, lower=["eth9"])], "eth9 is part of another interface"),
        ([network()], "its interface is in another network namespace"),
        (
            [network(), port(), Virt(key="key-eth9", ifname="eth9", address=ONE, vfs_set=2)],
            "eth9 has virtual functions",
        ),
        (
            [network(), Virt(key="pf", ifname="pf", vfs=[VirtFunction(index=0, address=ONE)])],
            "it is a virtual function: the knob vf has its driver",
        ),
        ([Pci(key=ONE, class_id="010802", driver="nvme", iommu_group=3)], "whether nvme has work for it"),
    ],
)
def test_what_must_not_go_stays(facts: list[Fact], reason: str) -> None:
    made = planned(facts)
    assert made.changes == []
    assert made.skips[0].reason.startswith(reason), made.skips


def test_without_an_iommu_only_when_the_policy_says_so() -> None:
    assert len(planned([network(group=None), port()], unsafe_noiommu=True).changes) == 1


@pytest.mark.parametrize(("used", "count"), [("held open by qemu (7)", 0), ("", 1)])
def test_what_vfio_has_comes_back_unless_somebody_holds_it(used: str, count: int) -> None:
    given = Passthrough(key=ONE, type="pci", driver="vfio-pci", driver_override="vfio-pci", used=used)
    made = planned([network(driver="vfio-pci"), given], driver="ice")
    assert len(made.changes) == count
    for change in made.changes:
        assert isinstance(change.op, Request)
        assert change.op.after == {"driver": "ice", "driver_override": "vfio-pci"}
