"""qdisc, sysctl_net, timestamping: what is changed, what is left alone, and why."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from machine import Machine, requests
from machine.change import LiveWriter
from tuners import engine
from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from wire import discipline
from wire.facts import Fact, Qdisc, Sysctl, SysctlOwner, Timestamping
from wire.policy import Blast, Change, FileWrite, Mode, OutcomeStatus, Plan, Request, Setting, Values
from wire.sysctls import AVAILABLE, KEYS, row

Host = Callable[..., HostFacts]
Make = Callable[..., list[Fact]]
ETH0 = "52:54:00:00:00:03"
FQ_CODEL = "fq_codel 0: limit=10240 target=4999"


def quiet(facts: HostFacts, *settings: Setting) -> Plan:
    """The plan, having checked that the one after it is empty."""
    made = plan(settings, facts)
    assert plan(settings, project(facts, made)).changes == []
    return made


def queueing(host: Host, **fields: object) -> HostFacts:
    """The host with its NIC's queueing: four queues below the kernel's default."""
    given = {"root": "mq 0:", "queues": [FQ_CODEL] * 4, "txqueuelen": 1000, "tx_maxrate": [0] * 4, **fields}
    return host().replace([Qdisc(key=ETH0, ifname="eth0", ifindex=3, **given)])  # type: ignore[arg-type]


def wanting(**values: str | int | bool) -> Setting:
    return Setting(knob="qdisc", nic=ETH0, values=values)


def request(change: Change) -> tuple[Values, Values]:
    assert isinstance(change.op, Request)
    return change.op.before, change.op.after


def test_a_default_tree_gives_way_to_one_with_a_handle_of_ours(host: Host) -> None:
    (change,) = quiet(queueing(host), wanting(discipline="fq", limit=5000)).changes
    assert request(change) == (
        {"root": "mq 0:", "0-3": FQ_CODEL},
        {"root": "mq 7268:", "0-3": "fq limit=5000"},
    )
    assert change.blast is Blast.BLACKHOLE


def test_a_default_that_is_as_wanted_stays(host: Host) -> None:
    assert quiet(queueing(host), wanting(discipline="fq_codel", target_us=5000)).changes == []


def test_below_a_root_with_a_handle_only_leaves_change_and_options_where_they_stand(host: Host) -> None:
    leaves = ["fq 8001: limit=10000 quantum=3028", "fq 8002: limit=10000 quantum=3028", "pfifo 8003: limit=9", ""]
    made = quiet(queueing(host, root="mqprio 1:", queues=leaves), wanting(discipline="fq", limit=500))
    before, after = request(made.changes[0])
    assert before == {"0": leaves[0], "1": leaves[1], "2": leaves[2], "3": ""}
    assert after == {
        "0": "fq 8001: limit=500 quantum=3028",
        "1": "fq 8002: limit=500 quantum=3028",
        "2": "fq limit=500",
        "3": "fq limit=500",
    }
    alike = ["fq 8001: limit=10000", "fq 8002: limit=10000", "fq 8003: limit=10000", "fq 8004: limit=10000"]
    (change,) = quiet(queueing(host, root="mq 1:", queues=alike), wanting(limit=500)).changes
    assert change.blast is Blast.SAFE


def test_one_queue_has_the_discipline_itself(host: Host) -> None:
    facts = queueing(host, root="fq 7268: limit=1", queues=[""], tx_maxrate=[0])
    assert request(quiet(facts, wanting(discipline="pfifo")).changes[0])[1] == {"root": "pfifo 7269:"}
    assert request(quiet(facts, wanting(discipline="fq", limit=2)).changes[0])[1] == {"root": "fq 7268: limit=2"}


@pytest.mark.parametrize(
    ("fields", "values", "status", "reason"),
    [
        ({"foreign": ["htb 1:"]}, {"discipline": "fq"}, "unsupported", "htb 1: was built by somebody else: left alone"),
        ({}, {"discipline": "pfifo_fast", "limit": 9}, "failed", "limit is no option of pfifo_fast"),
        ({"root": "htb 1:"}, {"limit": 9}, "failed", "its queues differ: name the discipline"),
        ({}, {"bql_max": 9}, "unsupported", "unsupported: the driver has no bql_max per queue"),
        ({"txqueuelen": None}, {"txqueuelen": 9}, "unsupported", "unsupported: it has no tx_queue_len"),
    ],
)
def test_what_is_not_done_says_why(
    host: Host, fields: dict[str, object], values: Values, status: str, reason: str
) -> None:
    made = quiet(queueing(host, **fields), Setting(knob="qdisc", nic=ETH0, values=values))
    assert made.changes == []
    assert [(skip.status, skip.reason) for skip in made.skips] == [(status, reason)]


def test_files_of_queues(host: Host) -> None:
    made = quiet(queueing(host, bql_max=[7, 9, 7, 7]), wanting(txqueuelen=500, bql_max=9, tx_maxrate=0))
    ops = [change.op for change in made.changes]
    assert [(op.path, op.after) for op in ops if isinstance(op, FileWrite)] == [
        ("/sys/class/net/{ifname}/tx_queue_len", "500"),
        *((f"/sys/class/net/{{ifname}}/queues/tx-{queue}/byte_queue_limits/limit_max", "9") for queue in (0, 2, 3)),
    ]


def test_codel_reads_back_what_it_counts_in() -> None:
    assert [discipline.codel_us(number) for number in (5000, 100_000, 1, 2)] == [4999, 99999, 0, 1]
    assert discipline.stands("fq 8001: limit=5 quantum=1", "fq limit=5")
    assert not discipline.stands("fq 8001: limit=5 | fq 8002: limit=6", "fq limit=5")
    assert not discipline.stands("fq 8001:", "fq 8002:")
    assert discipline.stands("fq_codel 0: quantum=2014", "fq_codel 0: quantum=1514"), "the kernel's own, by the MTU"


# -- sysctl_net --

VALUES = {
    "net.core.somaxconn": "4096",
    "net.core.netdev_budget": "300",
    "net.ipv4.tcp_rmem": "4096 131072 6291456",
    "net.ipv4.tcp_congestion_control": "cubic",
    AVAILABLE: "reno cubic",
}
OWNED = {"net.core.somaxconn": SysctlOwner(path="/etc/sysctl.d/60-web.conf", value="8192")}


def written(host: Host, values: Values, mode: Mode = Mode.ENFORCE) -> Plan:
    facts = host().replace([Sysctl(values=VALUES, owners=OWNED)])
    return quiet(facts, Setting(knob="sysctl_net", values=values, mode=mode))


@pytest.mark.parametrize(
    ("name", "value", "after"),
    [
        ("net.core.somaxconn", "1024", "1024"),
        ("net.core.somaxconn", "=> 1024", None),
        ("net.core.somaxconn", "at_least 5000", "5000"),
        ("net.core.somaxconn", "=>5000", "5000"),
        ("net.ipv4.tcp_rmem", "=> 8192 8192 16777216", "8192 131072 16777216"),
        ("net.ipv4.tcp_rmem", "8192 8192 16777216", "8192 8192 16777216"),
    ],
)
def test_a_value_is_set_or_only_raised(host: Host, name: str, value: str, after: str | None) -> None:
    ops = [change.op for change in written(host, {name: value}).changes]
    assert [op.after for op in ops if isinstance(op, FileWrite)] == ([] if after is None else [after])


def test_the_owner_in_sysctl_d_wins_unless_the_mode_is_enforce_and_is_named_either_way(host: Host) -> None:
    values: Values = {"net.core.somaxconn": "1024"}
    assert written(host, values).changes[0].reason == "over /etc/sysctl.d/60-web.conf, which sets 8192"
    for mode in (Mode.WARN, Mode.YIELD):
        made = written(host, values, mode)
        assert made.changes == []
        assert made.skips[0].reason.startswith("/etc/sysctl.d/60-web.conf sets it to 8192: its owner wins")
    assert len(written(host, {"net.core.somaxconn": "8192"}, Mode.YIELD).changes) == 1, "the owner wants the same"


def test_what_is_not_there_and_what_starves(host: Host) -> None:
    made = written(host, {"net.core.wmem_max": "9000", "net.ipv4.tcp_congestion_control": "bbr"})
    assert [skip.reason for skip in made.skips] == [
        "unsupported: the kernel does not have it here",
        "the kernel has reno, cubic loaded: load tcp_bbr at boot",
    ]
    assert [written(host, {"net.core.netdev_budget": n}).changes[0].blast for n in ("600", "5000")] == [
        Blast.SAFE,
        Blast.STARVATION,
    ]


def test_the_readme_has_every_key(root: Path) -> None:
    text = (root / "tuners/README.md").read_text()
    assert re.findall(r"^\| `net\..*$", text, re.MULTILINE) == [row(name) for name in KEYS]


# -- timestamping --


def stamping(host: Host, values: Values, **fields: str) -> Plan:
    fact = Timestamping(key=ETH0, ifname="eth0", phc=1, tx=["off", "on"], rx=["none", "ptpv2-event"], tx_type="off")
    for name, value in {"rx_filter": "none", **fields}.items():
        setattr(fact, name, value)
    return quiet(host().replace([fact]), Setting(knob="timestamping", nic=ETH0, values=values))


def test_a_filter_that_the_driver_widens_is_asked_for_and_then_stands(host: Host) -> None:
    assert request(stamping(host, {"tx": "on", "rx": "ptpv2-l4-event"}).changes[0])[1] == {
        "tx": "on",
        "rx": "ptpv2-l4-event",
    }
    assert stamping(host, {"rx": "ptpv2-l4-event"}, rx_filter="ptpv2-event").changes == []
    assert stamping(host, {"rx": "ptpv2-l4-event"}, rx_filter="all").changes == []


def test_the_program_that_steers_the_clock_is_named_and_left_alone(host: Host) -> None:
    made = stamping(host, {"tx": "on"}, owner="ptp4l")
    assert made.changes == []
    assert made.skips[0].reason == "ptp4l steers its clock ptp1, and sets this itself"
    made = stamping(host, {"rx": "all"})
    assert (made.skips[0].status, made.skips[0].reason) == (
        OutcomeStatus.FAILED,
        "it offers none, ptpv2-event, not all",
    )
    assert stamping(host, {"tx": "on"}, rx_filter="").skips[0].reason == "unsupported by the driver"


def test_what_follows_from_a_value_undone_later_is_undone_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    state: Values = {"mtu": 2000, "root": "fq 7268: limit=9"}

    def read(_machine: Machine, op: Request) -> Values:
        return {name: state[name] for name in op.after}

    def write(_machine: Machine, op: Request) -> None:
        state.update(op.after)
        if op.message == "qdisc":
            state["root"] = f"fq_codel 0: quantum={int(state['mtu']) + 14}"

    kinds = {name: requests.Kind(read, write, follows=name == "qdisc") for name in ("mtu", "qdisc")}
    monkeypatch.setattr(requests, "KINDS", kinds)
    ops = [
        Request("mtu", {"mtu": 1500}, {"mtu": 2000}),
        Request("qdisc", {"root": "fq_codel 0: quantum=1514"}, {"root": "fq 7268: limit=9"}),
    ]
    changes = [Change(knob="qdisc", target="eth0", op=op) for op in ops]
    with LiveWriter() as writer:
        made = engine.undo(writer, changes, {}, [])
        assert [one.status for one in made] == [OutcomeStatus.REVERTED] * 2
        assert state == {"mtu": 1500, "root": "fq_codel 0: quantum=1514"}
        assert {one.status for one in engine.undo(writer, changes, {}, [])} == {OutcomeStatus.UNCHANGED}
