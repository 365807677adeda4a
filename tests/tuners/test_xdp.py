"""The knob xdp on made-up NICs: what it plans, and why it leaves a NIC alone."""

from collections.abc import Callable

import pytest
from msgspec import structs

from tuners.hostfacts import HostFacts
from tuners.planner import plan
from tuners.policy import lint
from wire.facts import Dmi, Ethtool, Fact, Nic, Xdp
from wire.policy import Blast, OutcomeStatus, Plan, Request, Setting, Value
from wire.xdp import NOTHING

Host = Callable[..., HostFacts]
KEY = "52:54:00:00:00:03"
XDP = Xdp(key=KEY, ifname="eth0", ifindex=3, features=["basic", "redirect"])


def planned(facts: HostFacts, *parts: Fact, **values: Value) -> Plan:
    made = facts.replace(parts or [XDP])
    return plan([Setting(knob="xdp", nic=KEY, values={"programs": "count", **values})], made)


def why(found: Plan) -> str:
    assert found.changes == []
    (skip,) = found.skips
    return skip.reason


def test_one_request_has_the_whole_chain(host: Host) -> None:
    (change,) = planned(host(), programs="acl, count", acl="deny 10.0.0.0/8").changes
    assert change.blast is Blast.BLACKHOLE
    assert isinstance(change.op, Request)
    assert change.op.before == NOTHING
    given = {"programs": "count,acl", "mode": "native", "stale_s": 10, "acl": "deny 10.0.0.0/8", "acl_default": "allow"}
    assert change.op.after == {**NOTHING, **given}


@pytest.mark.parametrize("owner", ["libxdp", "cilium", "other", ""])
def test_a_foreign_program_is_named(host: Host, owner: str) -> None:
    fact = structs.replace(XDP, program=9, mode="native", name="theirs", owner=owner)
    for programs in ("count", "none"):
        whose = owner if owner in ("libxdp", "cilium") else "somebody else"
        assert f"program theirs of {whose}" in why(planned(host(), fact, programs=programs))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"programs": "acl"}, "acl has no rules"),
        ({"programs": "ratelimit"}, "ratelimit needs rate_pps"),
        ({"programs": "quic-steer"}, "needs quic_cpus"),
        ({"programs": "quic-steer", "quic_cpus": "7-9"}, "no CPU 8"),
        ({"programs": "quic-steer", "quic_to": "socket", "quic_cid_byte": 8}, "beyond the connection id"),
        ({"programs": "firewall"}, 'no program "firewall"'),
        ({"acl": "deny 10.0.0.1/8"}, "host bits"),
    ],
)
def test_what_cannot_work_is_said(host: Host, values: dict[str, Value], reason: str) -> None:
    found = planned(host(), **values)
    assert reason in why(found)
    assert found.skips[0].status is OutcomeStatus.FAILED


def test_the_slow_way_needs_leave(host: Host) -> None:
    fact = structs.replace(XDP, features=[])
    assert "generic: true" in why(planned(host(), fact))
    (change,) = planned(host(), fact, generic=True).changes
    assert isinstance(change.op, Request)
    assert change.op.after["mode"] == "generic"
    assert "why" not in change.reason


def nic(facts: HostFacts, **fields: object) -> Nic:
    return structs.replace(facts.nics[KEY], **fields)


def ethtool(facts: HostFacts, **fields: object) -> Ethtool:
    return structs.replace(facts.ethtool[KEY], **fields)


def test_drivers_limits_are_known_before_they_refuse(host: Host) -> None:
    facts = host()
    assert "MTU is 9000; frames up to 3072 bytes" in why(planned(facts, XDP, nic(facts, driver="ice", mtu=9000)))
    large = structs.replace(XDP, features=["basic", "rx-sg"])
    assert planned(facts, large, nic(facts, driver="ice", mtu=9000)).changes
    assert "no jumbo" in why(planned(facts, XDP, nic(facts, driver="ixgbevf", mtu=9000)))
    lro = ethtool(facts, features={"rx-lro": True})
    assert "LRO is on" in why(planned(facts, XDP, nic(facts, driver="mlx5_core"), lro))
    assert planned(facts, XDP, nic(facts, driver="virtio_net"), lro).changes
    assert "go to its ports" in why(planned(facts, XDP, nic(facts, type="bond")))


@pytest.mark.parametrize(
    ("driver", "kernel", "now", "fits"),
    [
        ("ena", "6.1.0", 9, False),
        ("ena", "6.1.0", 8, True),
        ("virtio_net", "5.10.0-28-amd64", 9, False),
        ("virtio_net", "5.10.0-28-amd64", 8, True),
        ("virtio_net", "6.1.0", 16, True),
    ],
)
def test_channels_have_to_be_left(host: Host, driver: str, kernel: str, now: int, fits: bool) -> None:
    facts = host()  # of 8 CPUs
    channels = ethtool(facts, channels={"combined": now, "combined_max": 16})
    found = planned(facts, XDP, nic(facts, driver=driver), channels, Dmi(kernel=kernel))
    if fits:
        assert found.changes
    else:
        assert f"{now} of 16 channels are in use" in why(found)


def test_a_policy_says_where_it_is_wrong() -> None:
    text = 'name: x\nknobs:\n  xdp: {programs: "acl, wall", acl: "deny 10.0.0.1/8", stale_s: 1}\n'
    assert [problem.line for problem in lint(text)] == [3, 3, 3]
