"""Bonds, functions given away and RDMA ports in a few words."""

from hwdb import parts
from tuners.hostfacts import HostFacts
from wire.facts import Bond, BondPort, Passthrough, Rdma, Representor, Virt, VirtFunction

UP, DOWN = BondPort(ifname="eth0", key="a", link="up"), BondPort(ifname="eth1", key="b", link="down")


def test_a_bond_says_who_is_down_and_who_answers() -> None:
    good = Bond(key="b", ifname="bond0", mode="802.3ad", xmit_hash="layer3+4", partner_mac="64:9d", ports=[UP, UP])
    bad = Bond(key="c", ifname="bond1", mode="802.3ad", ports=[UP, DOWN])
    team = Bond(key="t", ifname="t0", driver="team", mode="activebackup", active="eth0", ports=[UP])
    assert parts.lines(HostFacts([good, bad, team]), {}) == [
        ("bonds", "bond0 802.3ad layer3+4: 2 of 2 ports up, partner 64:9d"),
        ("", "bond1 802.3ad: 1 of 2 ports up, down eth1, no partner"),
        ("", "t0 team activebackup: 1 of 1 ports up, active eth0"),
    ]


def test_functions_are_counted_by_who_has_them() -> None:
    functions = [VirtFunction(index=at, owner=owner) for at, owner in enumerate(("host", "vfio", "host", ""))]
    shared = Virt(key="k", ifname="ens1", vfs_total=64, vfs=functions, eswitch_mode="switchdev")
    shared.representors = [Representor(ifname="r", key="r")]
    unused = Virt(key="0000:01:00.0", ifname="", vfs_total=8)
    given = [Passthrough(key=f"0000:81:00.{at}", type="pci", driver="vfio-pci") for at in range(5)]
    assert parts.lines(HostFacts([shared, unused, *given]), {}) == [
        ("virtual", "ens1: 4 of 64 functions, 2 host, 1 vfio, 1 without driver, switchdev, 1 representors"),
        (
            "",
            "5 given away: 0000:81:00.0 vfio-pci, 0000:81:00.1 vfio-pci, 0000:81:00.2 vfio-pci, 0000:81:00.3 vfio-pci"
            " and 1 more",
        ),
    ]


def test_an_rdma_port_says_what_it_runs_at() -> None:
    port = Rdma(
        key="k", device="mlx5_0", port=1, link_layer="InfiniBand", state="active", rate_gbps=100.0, width="4X EDR",
        lid=932, ifnames=["ib0"], firmware="20.1",
    )  # fmt: skip
    assert parts.lines(HostFacts([port, Rdma(key="r", device="rxe0", port=1)]), {}) == [
        ("RDMA", "mlx5_0/1 InfiniBand active 100 Gb/s (4X EDR), LID 932, ib0, firmware 20.1"),
        ("", "rxe0/1"),
    ]
