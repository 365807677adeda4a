"""link and dcb: what a port may be told, what saves power, what the other end has to say first."""

from collections.abc import Callable

import pytest
from msgspec import structs

from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from wire.facts import Dcb, Fact, Lldp, Nic
from wire.policy import Blast, Change, FileWrite, OutcomeStatus, Plan, Request, Setting, Value, Values

Host = Callable[..., HostFacts]
Make = Callable[..., list[Fact]]
ETH0 = "52:54:00:00:00:03"
MODES = ["1000baseT/Full", "100baseT/Full", "10baseT/Full"]


def quiet(facts: HostFacts, *settings: Setting) -> Plan:
    """The plan, having checked that the one after it is empty."""
    made = plan(settings, facts)
    assert plan(settings, project(facts, made)).changes == []
    assert all(change.blast is Blast.LINK for change in made.changes)
    return made


def port(host: Host, nic: dict[str, object] | None = None, **ethtool: object) -> HostFacts:
    """A copper port of 1 Gbit/s that negotiates."""
    facts = host()
    had = {"mtu": 1500, "autoneg": True, "speed_mbps": 1000, "duplex": "full", "carrier": True, **(nic or {})}
    words = {
        "supported": [*MODES, "Autoneg", "TP"],
        "advertised": [*MODES, "Autoneg", "TP"],
        "fec": ["auto", "None"],
        "pause": {"autoneg": True, "rx": True, "tx": True},
        "eee": {"enabled": True, "active": True},
        **ethtool,
    }
    changed: list[Fact] = [structs.replace(facts.nics[ETH0], **had), structs.replace(facts.ethtool[ETH0], **words)]
    return facts.replace(changed)


def told(facts: HostFacts, **values: Value) -> Plan:
    return quiet(facts, Setting(knob="link", nic=ETH0, values=values))


def after(change: Change) -> Values:
    assert isinstance(change.op, Request)
    return change.op.after


def refusal(made: Plan) -> tuple[OutcomeStatus, str]:
    assert made.changes == []
    (only,) = made.skips
    return only.status, only.reason


def test_a_slower_speed_and_eee_are_refused_without_a_reason(host: Host) -> None:
    assert refusal(told(port(host), speed=100)) == (
        OutcomeStatus.REFUSED,
        "100 is slower than 1000 Mbit/s: only with why",
    )
    assert refusal(told(port(host, eee={"enabled": False}), eee=True))[0] is OutcomeStatus.REFUSED
    slow = told(port(host), speed=100, why="the media converter takes no more").changes[0]
    assert after(slow) == {"mode": "auto: 100baseT/Full,Autoneg,TP"}
    assert slow.reason == "the media converter takes no more"
    saving = told(port(host, eee={"enabled": False}), eee=True, why="a lab of ours")
    assert after(saving.changes[0]) == {"enabled": True}


def test_eee_is_turned_off_unasked_for_reasons(host: Host) -> None:
    assert after(told(port(host), eee=False).changes[0]) == {"enabled": False}
    assert told(port(host, eee={}), eee=False) == Plan()


def test_speed_with_autonegotiation_is_what_is_advertised(host: Host) -> None:
    slow = port(host, {"speed_mbps": 100}, advertised=["100baseT/Full", "Autoneg", "Pause"])
    assert after(told(slow, speed="max").changes[0]) == {
        "mode": "auto: 1000baseT/Full,100baseT/Full,10baseT/Full,Autoneg,Pause"
    }
    assert after(told(slow, speed=1000).changes[0]) == {"mode": "auto: 1000baseT/Full,Autoneg,Pause"}
    assert told(port(host), speed="max", autoneg=True).changes == []
    assert refusal(told(port(host), speed=2500)) == (OutcomeStatus.FAILED, "it has no mode of 2500 Mbit/s")


def test_a_fixed_speed_needs_a_link_to_tell_what_came_of_it(host: Host) -> None:
    fixed = told(port(host), autoneg=False).changes[0]
    assert after(fixed)["mode"] == "fixed 1000 full: 1000baseT/Full,100baseT/Full,10baseT/Full,Autoneg,TP"
    assert "without a link" in refusal(told(port(host, {"carrier": False}), autoneg=False))[1]
    nothing = port(host, {"speed_mbps": None}, advertised=[])
    assert refusal(told(nothing, autoneg=False))[1] == "without autonegotiation a speed must be named"
    assert refusal(told(port(host, {"autoneg": None}), autoneg=False))[1] == "unsupported by the driver"


def test_fec_and_pause(host: Host) -> None:
    assert after(told(port(host), fec="rs").changes[0]) == {"modes": "RS"}
    assert told(port(host), fec="auto").changes == []
    assert "driver says nothing" in refusal(told(port(host, fec=[]), fec="rs"))[1]
    offers = port(host, supported=[*MODES, "None", "BASER"])
    assert refusal(told(offers, fec="rs")) == (OutcomeStatus.FAILED, "it offers BASER, None")
    fixed = told(port(host), pause_autoneg=False, pause_rx=False).changes[0]
    assert after(fixed) == {"autoneg": False, "rx": False}
    assert "the partner has a say" in refusal(told(port(host), pause_rx=False))[1]


# -- MTU --


def files(made: Plan) -> list[tuple[str, str]]:
    ops = [change.op for change in made.changes]
    return [(op.path, op.after) for op in ops if isinstance(op, FileWrite)]


@pytest.mark.parametrize(("frame", "is_proof"), [(9216, True), (9018, True), (9017, False), (None, False)])
def test_an_mtu_is_raised_when_the_neighbour_announces_it(host: Host, frame: int | None, is_proof: bool) -> None:
    facts = port(host).replace([Lldp(key=ETH0, max_frame_bytes=frame)])
    made = told(facts, mtu=9000)
    assert files(made) == ([("/sys/class/net/{ifname}/mtu", "9000")] if is_proof else [])
    if not is_proof:
        assert refusal(made)[0] is OutcomeStatus.REFUSED
        assert "prove it with mtu_probe, or set mtu_force" in made.skips[0].reason


def test_it_is_lowered_and_forced_without_proof(host: Host) -> None:
    assert len(told(port(host), mtu=1400).changes) == 1
    assert len(told(port(host), mtu=9000, mtu_force=True).changes) == 1


def above(name: str, lower: list[str], kind: str = "vlan", mtu: int = 1500, master: str = "") -> Nic:
    return Nic(key=name, ifname=name, ifindex=90, type=kind, lower=lower, mtu=mtu, master=master)


def test_what_stands_on_it_follows_and_the_last_of_them_is_the_one_to_prove(host: Host) -> None:
    facts = port(host).replace([above("eth0.7", ["eth0"]), above("eth0.8", ["eth0"], mtu=1400)])
    up, over = told(facts, mtu=9000, mtu_probe="192.0.2.1").changes
    assert isinstance(up.op, FileWrite)
    assert isinstance(over.op, Request)
    assert (over.op.message, over.op.ifname, over.op.item) == ("mtu", "eth0.7", "192.0.2.1")
    assert files(told(facts, mtu=1300)) == [
        ("/sys/class/net/eth0.7/mtu", "1300"),
        ("/sys/class/net/{ifname}/mtu", "1300"),
    ]


@pytest.fixture
def bonded(host: Host, cpus: Make, nic: Make) -> HostFacts:
    """Two ports of a bond with a VLAN on it."""
    facts = host(cpus(), nic(), nic(ifname="eth1", base=200))
    ports = [structs.replace(one, master="bond0", mtu=1500) for one in facts.nics.values()]
    return facts.replace([*ports, above("bond0", ["eth0", "eth1"], "bond"), above("bond0.7", ["bond0"])])


def test_a_bond_is_raised_with_the_last_of_its_ports_and_lowered_with_the_first(bonded: HostFacts) -> None:
    keys = [key for key, nic in bonded.nics.items() if nic.type == "physical"]
    raising = [Setting(knob="link", nic=key, values={"mtu": 9000, "mtu_force": True}) for key in keys]
    assert [change.target for change in quiet(bonded, *raising).changes] == [
        "eth0 mtu",
        "eth1 mtu",
        "bond0 mtu",
        "bond0.7 mtu",
    ]
    lowering = [Setting(knob="link", nic=key, values={"mtu": 1400}) for key in keys]
    assert [change.target for change in quiet(bonded, *lowering).changes] == [
        "bond0.7 mtu",
        "bond0 mtu",
        "eth0 mtu",
        "eth1 mtu",
    ]


def test_one_port_of_a_bond_alone_is_raised_and_never_lowered(bonded: HostFacts) -> None:
    one = Setting(knob="link", nic=ETH0, values={"mtu": 9000, "mtu_force": True})
    made = quiet(bonded, one)
    assert [change.target for change in made.changes] == ["eth0 mtu"]
    assert [skip.reason for skip in made.skips] == ["bond0 keeps 1500: eth1 below it has 1500"]
    assert quiet(bonded, structs.replace(one, values={"mtu": 1400})).changes == []


def test_a_vlan_may_be_raised_to_what_its_port_has(host: Host) -> None:
    facts = port(host, {"mtu": 4000}).replace([above("eth0.7", ["eth0"])])
    for mtu, reasons in ((4000, []), (9000, ["eth0 below it has 4000"])):
        made = quiet(facts, Setting(knob="link", nic="eth0.7", values={"mtu": mtu}))
        assert [skip.reason for skip in made.skips] == reasons


# -- dcb --


def bridged(host: Host, values: Values, *heard: Lldp, **fields: object) -> Plan:
    words = {
        "dcbx": ["host", "ieee"],
        "pfc_capable": 8,
        "pfc": [],
        "bandwidth": [100, 0, 0, 0, 0, 0, 0, 0],
        "tsa": ["ets"] * 8,
        "prio_tc": [0] * 8,
        "trust": ["pcp"],
        **fields,
    }
    fact = Dcb(key=ETH0, ifname="eth0", ifindex=3, **words)  # type: ignore[arg-type]
    facts = host().replace([fact, *heard])
    return quiet(facts, Setting(knob="dcb", nic=ETH0, values=values))


def test_lossless_priorities_need_a_switch_that_has_the_same(host: Host) -> None:
    values: Values = {"pfc": "3", "trust": "dscp", "dscp": "48:6,26:3"}
    silent = bridged(host, values)
    assert after(silent.changes[0]) == {"trust": "dscp", "dscp": "26:3,48:6"}
    assert [(skip.status, skip.target) for skip in silent.skips] == [(OutcomeStatus.REFUSED, "eth0 pfc")]
    assert "announces no PFC by LLDP" in silent.skips[0].reason
    other = bridged(host, values, Lldp(key=ETH0, pfc=[4]))
    assert other.skips[0].reason.startswith("the switch has 4 lossless, not 3")
    same = bridged(host, values, Lldp(key=f"{ETH0}#2", port_key=ETH0, pfc=[3]))
    assert (after(same.changes[0])["pfc"], same.skips) == ("3", [])
    assert after(bridged(host, {**values, "force": True}).changes[0])["pfc"] == "3"
    assert after(bridged(host, {"pfc": "off"}, pfc=[3]).changes[0]) == {"pfc": ""}


def test_shares_make_a_hundred(host: Host) -> None:
    values: Values = {"bandwidth": "60,0,0,30,0,0,0,0"}
    assert refusal(bridged(host, values))[1] == "the classes with ets have 90 % together, not 100"
    tsa = "ets,ets,ets,ets,strict,strict,strict,strict"
    good = bridged(host, {"bandwidth": "60,0,0,40,0,0,0,0", "tsa": tsa, "prio_tc": "0,0,0,3,0,0,0,0"})
    assert after(good.changes[0])["bandwidth"] == "60,0,0,40,0,0,0,0"


@pytest.mark.parametrize(
    ("fields", "values", "reason"),
    [
        ({"dcbx": ["lld"]}, {"pfc": "3"}, "the NIC's firmware negotiates it by DCBX: turn that off to set it here"),
        ({"pfc_capable": 1}, {"pfc": "3,4"}, "unsupported: it can have 1 lossless priorities at once"),
        ({"pfc": None}, {"pfc": "3"}, "unsupported: the driver has no PFC"),
        ({"tsa": [], "bandwidth": []}, {"bandwidth": "100,0,0,0,0,0,0,0"}, "unsupported: the driver has no ETS"),
        ({"trust": []}, {"trust": "dscp"}, "unsupported: the driver does not say what it trusts"),
    ],
)
def test_what_a_driver_does_not_do(host: Host, fields: dict[str, object], values: Values, reason: str) -> None:
    assert refusal(bridged(host, values, **fields))[1] == reason


def test_without_dcbnl_it_is_unsupported(host: Host) -> None:
    made = plan([Setting(knob="dcb", nic=ETH0, values={"pfc": "3"})], host())
    assert [skip.reason for skip in made.skips] == ["unsupported by the driver"]
