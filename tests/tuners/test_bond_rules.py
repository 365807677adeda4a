"""What is found to be wrong with bonds, on bonds made to have exactly that."""

import pytest
from msgspec import structs

from tuners import bond_rules
from tuners.findings import RULES, findings
from tuners.hostfacts import HostFacts
from wire.facts import Bond, BondPort, Nic
from wire.policy import Finding
from wire.report import Severity

SWITCH = "64:9d:99:2e:78:a1"


def port(name: str, **fields: object) -> BondPort:
    return structs.replace(BondPort(ifname=name, key=name, link="up", aggregator=1), **fields)


def lacp(**fields: object) -> Bond:
    made = Bond(
        key="bond0",
        ifname="bond0",
        mode="802.3ad",
        miimon_ms=100,
        arp_interval_ms=0,
        aggregator=1,
        partner_mac=SWITCH,
        ports=[port("eth0"), port("eth1")],
    )
    return structs.replace(made, **fields)


def nic(name: str, speed_mbps: int, *, carrier: bool = True) -> Nic:
    return Nic(key=name, ifname=name, ifindex=len(name), type="physical", carrier=carrier, speed_mbps=speed_mbps)


def found(bond: Bond, *nics: Nic) -> list[Finding]:
    names = ("lacp", "bond")
    return [one for one in findings(HostFacts([bond, *nics])) if one.rule.startswith(names)]


def test_a_good_bond_has_no_finding() -> None:
    assert found(lacp(), nic("eth0", 10000), nic("eth1", 10000)) == []
    assert found(Bond(key="t", ifname="t", driver="team", ports=[port("a", link=""), port("b", link="")])) == []


CASES: list[tuple[Bond, str, Severity, str]] = [
    (
        lacp(partner_mac=""),
        "lacp_partner_missing",
        Severity.WARNING,
        "no LACP partner answers on eth0, eth1: one port carries everything",
    ),
    (
        lacp(ports=[port("eth0"), port("eth1", aggregator=2)]),
        "lacp_split",
        Severity.WARNING,
        f"eth1 up, but not in the active aggregator with partner {SWITCH}",
    ),
    (
        lacp(ports=[port("eth0"), port("eth1", link="down")]),
        "bond_degraded",
        Severity.WARNING,
        "eth1 down, only eth0 is left",
    ),
    (
        lacp(ports=[port("eth0"), port("eth1"), port("eth2", link="down")]),
        "bond_degraded",
        Severity.WARNING,
        "eth2 down, 2 of 3 are left",
    ),
    (
        lacp(ports=[port("eth0", link="down"), port("eth1", link="down")]),
        "bond_degraded",
        Severity.CRITICAL,
        "no port is up",
    ),
    (
        lacp(ports=[port("eth0")]),
        "bond_degraded",
        Severity.INFO,
        "has eth0 alone: no second port to fall back on",
    ),
    (
        lacp(mode="active-backup", aggregator=None, partner_mac="", miimon_ms=0),
        "bond_unwatched",
        Severity.WARNING,
        "its links are not watched (miimon and arp_interval are 0): a port that fails stays in use",
    ),
]


def test_every_rule_is_tested() -> None:
    assert {case[1] for case in CASES} | {"bond_speeds"} == {
        rule.__name__ for rule in RULES if rule.__module__ == bond_rules.__name__
    }


@pytest.mark.parametrize(("bond", "rule", "severity", "text"), CASES)
def test_each_rule_says_what_and_names_a_remedy(bond: Bond, rule: str, severity: Severity, text: str) -> None:
    (one,) = found(bond)
    assert (one.rule, one.key, one.severity, one.text) == (rule, "bond0", severity, text)
    assert one.remedy


def test_speeds_differ_among_ports_with_a_carrier_only() -> None:
    (one,) = found(lacp(), nic("eth0", 10000), nic("eth1", 1000))
    assert (one.rule, one.text) == ("bond_speeds", "ports with different speeds: eth0 10000 Mb/s, eth1 1000 Mb/s")
    assert found(lacp(), nic("eth0", 10000), nic("eth1", 1000, carrier=False)) == []


def test_nobody_up_is_no_missing_partner_and_arp_monitoring_is_monitoring() -> None:
    down = lacp(partner_mac="", ports=[port("eth0", link="down"), port("eth1", link="down")])
    assert [one.rule for one in found(down)] == ["bond_degraded"]
    watched = lacp(mode="active-backup", partner_mac="", miimon_ms=0, arp_interval_ms=1000)
    assert found(watched) == []
