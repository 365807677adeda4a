"""Who else sets the same: named where ours is enforced, left alone where it yields, no rival where it says the same."""

from collections.abc import Callable

import pytest

from tuners import findings, planner
from tuners.hostfacts import HostFacts
from tuners.owners import Others, contested
from wire.facts import Claim, Owner, Softnet, Sysctl
from wire.facts.traffic import SysctlOwner
from wire.policy import Change, FileWrite, IrqBan, Mode, OutcomeStatus, Plan, Setting, Values

Host = Callable[..., HostFacts]
KEY = "52:54:00:00:00:03"


def rivals(host: Host, *claims: Claim, irqbalance: bool = False) -> HostFacts:
    tuned = Owner(key="tuned", name="TuneD", running=True, profile="edge", claims=list(claims))
    return host().replace([tuned, Softnet(rps_sock_flow_entries=0, irqbalance=irqbalance)])


def planned(facts: HostFacts, knob: str, values: Values, mode: Mode = Mode.ENFORCE) -> Plan:
    return planner.plan([Setting(knob=knob, nic=KEY, values=values, mode=mode, policy="p")], facts)


CONTESTS: list[tuple[str, Values, Claim]] = [
    ("rings", {"rx": 1024}, Claim(what="rings rx", value="4096", source="/etc/tuned/edge/tuned.conf")),
    ("rings", {"rx": 1024}, Claim(what="rings *", source="/etc/udev/rules.d/9.rules")),
    ("coalesce", {"rx_usecs": 8}, Claim(what="coalesce rx_usecs", value="3", nic=KEY)),
    ("offloads", {"gro": False}, Claim(what="features gro", value="on")),
    ("offloads", {"rx-gro": False}, Claim(what="features gro", value="on")),
    ("channels", {"combined": 2}, Claim(what="channels combined", value="8")),
    ("rps", {"mode": "all"}, Claim(what="queues rps_cpus")),
    ("xps", {"mode": "auto"}, Claim(what="queues xps_cpus", value="f")),
    ("rps", {"mode": "all"}, Claim(what="file /sys/class/net/eth0/queues/*/rps_cpus", value="0")),
]


@pytest.mark.parametrize(("knob", "values", "claim"), CONTESTS, ids=lambda each: getattr(each, "what", None))
def test_a_rival_is_named_or_left_alone(host: Host, knob: str, values: Values, claim: Claim) -> None:
    facts = rivals(host, claim)
    changes = planned(facts, knob, values).changes
    assert changes
    assert all(f"but TuneD (edge) sets {claim.what}" in change.reason for change in changes)
    assert all(claim.source in change.reason for change in changes)

    left = planned(facts, knob, values, Mode.YIELD)
    assert left.changes == []
    assert {skip.status for skip in left.skips} == {OutcomeStatus.YIELDED}
    assert len(left.skips) == len(changes)
    assert all("left to them: TuneD (edge)" in skip.reason for skip in left.skips)
    assert [change.op for change in planned(facts, knob, values, Mode.WARN).changes] == [each.op for each in changes]


@pytest.mark.parametrize(
    ("knob", "values", "claim"),
    [
        ("rings", {"rx": 1024}, Claim(what="rings rx", value="1024")),  # wants the same
        ("rings", {"rx": 1024}, Claim(what="rings tx", value="4096")),  # of another value
        ("rings", {"rx": 1024}, Claim(what="rings rx", value="4096", nic="another")),
        ("offloads", {"gro": False}, Claim(what="features gro", value="off")),
        ("offloads", {"gro": False}, Claim(what="features tso", value="on")),
        ("coalesce", {"adaptive_rx": True}, Claim(what="coalesce use_adaptive_rx", value="on")),
        ("rps", {"mode": "all"}, Claim(what="queues xps_cpus")),
        ("rps", {"mode": "all"}, Claim(what="file /sys/class/net/eth9/queues/*/rps_cpus")),
        ("rings", {"rx": 1024}, Claim(what="something else")),
    ],
)
def test_who_wants_the_same_or_something_else_is_no_rival(host: Host, knob: str, values: Values, claim: Claim) -> None:
    for mode in (Mode.ENFORCE, Mode.YIELD):
        made = planned(rivals(host, claim), knob, values, mode)
        assert made == planned(host(), knob, values, mode)
        assert made.changes


def test_irqbalance_is_told_by_who_enforces_and_left_alone_by_who_yields(host: Host) -> None:
    facts = rivals(host, irqbalance=True)
    enforced = planned(facts, "irq_affinity", {"placement": "local"}).changes
    assert isinstance(enforced[0].op, IrqBan)
    assert all("irqbalance" not in change.reason for change in enforced)

    left = planned(facts, "irq_affinity", {"placement": "local"}, Mode.YIELD)
    assert left.changes == []
    assert all("irqbalance sets irq affinity" in skip.reason for skip in left.skips)
    warned = planned(facts, "irq_affinity", {"placement": "local"}, Mode.WARN).changes
    assert warned
    assert all("but irqbalance sets irq affinity" in change.reason for change in warned)

    banned = facts.replace([Softnet(irqbalance=True, banned_irqs=[queue.irq for queue in facts.irq[KEY].queues])])
    assert planned(banned, "irq_affinity", {"placement": "local"}, Mode.YIELD).changes, "it keeps its hands off them"


def sysctl(path: str, before: str, after: str) -> Change:
    return Change(knob="sysctl_net", target=path, op=FileWrite(path, before, after))


@pytest.mark.parametrize(
    ("value", "after", "rival"),
    [
        ("2048", "4096", True),
        (">2048", "4096", False),  # raise only: TuneD is content
        ("=>2048", "1024", True),
        ("4096\t131072  16777216", "4096 131072 16777216", False),
    ],
)
def test_sysctls_are_compared_by_key_and_value(host: Host, value: str, after: str, rival: bool) -> None:
    change = sysctl("/proc/sys/net/core/somaxconn", "128", after)
    others = Others(rivals(host, Claim(what="sysctl net.core.somaxconn", value=value)))
    assert bool(others.of(change)) is rival
    assert not others.of(sysctl("/proc/sys/net/core/rmem_max", "1", "2"))


def test_a_setting_of_the_host_yields_to_a_file_of_sysctl_d(host: Host) -> None:
    key = "net.core.rps_sock_flow_entries"
    facts = host().replace(
        [Sysctl(values={key: "0"}, owners={key: SysctlOwner(path="/etc/sysctl.d/9.conf", value="64")})]
    )
    made = planned(facts, "rps", {"mode": "off", "flow_entries": 32768}, Mode.YIELD)
    assert [skip.reason for skip in made.skips if skip.status is OutcomeStatus.YIELDED] == [
        f"left to them: sysctl.d sets sysctl {key} to 64 (/etc/sysctl.d/9.conf)"
    ]
    enforced = planned(facts, "rps", {"mode": "off", "flow_entries": 32768}).changes
    assert [change.nic for change in enforced if "but sysctl.d sets" in change.reason] == [""]


def test_many_rivals_are_counted(host: Host) -> None:
    facts = rivals(host).replace(
        [Owner(key=str(at), name=f"owner {at}", claims=[Claim(what="rings rx", value="9")]) for at in range(5)]
    )
    (change,) = planned(facts, "rings", {"rx": 1024}).changes
    assert change.reason.endswith("but owner 0 sets rings rx to 9, owner 1 sets rings rx to 9 and 3 more")


def test_two_others_who_disagree_are_a_finding(host: Host) -> None:
    ppd = Owner(key="ppd", name="ppd", running=True, claims=[Claim(what="cpu governor")])
    facts = rivals(host, Claim(what="cpu governor", value="performance"), Claim(what="rings rx", value="1", nic=KEY))
    assert list(contested(facts)) == []
    link = Owner(key="link", name="link", claims=[Claim(what="rings rx", value="2"), Claim(what="rings tx", value="2")])
    both = facts.replace([ppd, link])
    assert [(what, nic) for what, nic, _ in contested(both)] == [("cpu governor", ""), ("rings rx", KEY)]
    found = [one for one in findings.findings(both) if one.rule == "knob_contested"]
    assert [(one.target, one.key) for one in found] == [("eth0", f"{KEY} rings rx"), ("host", "cpu governor")]
    assert (
        "TuneD (edge) sets cpu governor to performance and ppd sets cpu governor" in found[1].text
        or "ppd" in found[1].text
    )
    agreed = facts.replace([Owner(key="x", name="x", claims=[Claim(what="cpu governor", value="performance")])])
    assert list(contested(agreed)) == []
