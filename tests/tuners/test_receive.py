"""rss, ntuple, napi, busy_poll, coalescing by queue and aRFS: what is planned for made-up NICs."""

from collections.abc import Callable

import pytest
from msgspec import structs

from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from tuners.policy import lint
from tuners.rss import is_shared, mirrored
from wire.facts import Dmi, Ethtool, Fact, Irq, Napi, NapiInstance, Ntuple, NtupleRule, Rss, RssContext, Softnet
from wire.policy import Blast, FileWrite, Mode, OutcomeStatus, Plan, Request, Setting, Values

Make = Callable[..., list[Fact]]
Host = Callable[..., HostFacts]
KEY = "52:54:00:00:00:03"
NAMES = {"key": KEY, "ifname": "eth0", "ifindex": 3}
MICROSOFT = "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"


def spread_over(queues: int = 4, **more: object) -> Rss:
    known = {"queues": queues, "table": f"0-{queues - 1} over 128", "fields": {"udp4": "sd"}, **more}
    return Rss(**NAMES, **known)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def rules(*texts: tuple[int, str], size: int = 64) -> Ntuple:
    table = [NtupleRule(location=place, rule=text) for place, text in texts]
    return Ntuple(key=KEY, ifname="eth0", ifindex=3, size=size, rules=table)


@pytest.fixture
def facts(host: Host, cpus: Make, nic: Make) -> Callable[..., HostFacts]:
    """`facts(*more, driver=, features=)`: a NIC of four queues, and what is known of it besides."""

    def make(*more: Fact, driver: str = "ice", features: dict[str, bool] | None = None) -> HostFacts:
        made = nic(driver=driver, cpus=["0", "1", "2", "3"])
        known = features or {"rx-ntuple-filter": True}
        made = [structs.replace(fact, features=known) if isinstance(fact, Ethtool) else fact for fact in made]
        return host(cpus(), made).replace(more)

    return make


def planned(facts: HostFacts, knob: str, **values: str | int | bool) -> Plan:
    setting = Setting(knob=knob, nic="" if knob == "busy_poll" else KEY, values=dict(values))
    made = plan([setting], facts)
    assert plan([setting], project(facts, made)).changes == []
    return made


def after(made: Plan) -> list[Values]:
    return [change.op.after for change in made.changes if isinstance(change.op, Request)]


def why(made: Plan) -> str:
    assert made.changes == []
    return "; ".join(skip.reason for skip in made.skips)


# -- rss --


@pytest.mark.parametrize(
    ("values", "table"),
    [
        ({"queues": 2}, "0-1 over 128"),
        ({"reserve": 1}, "0-2 over 128"),
        ({"skip": "0"}, "1-3 over 128"),
        ({"skip": "1", "reserve": 1}, "0,2 over 128"),
        ({"weights": "3 0 1"}, "0*96,2*32 over 128"),
    ],
)
def test_the_table_has_the_queues_that_are_left(facts: Callable[..., HostFacts], values: Values, table: str) -> None:
    made = planned(facts(spread_over()), "rss", **values)
    assert after(made) == [{"table": table}]
    assert made.changes[0].blast is Blast.SAFE


def test_a_queue_without_a_known_interrupt_may_be_a_black_hole(facts: Callable[..., HostFacts]) -> None:
    unmapped = Irq(key=KEY, ifname="eth0", source="unmapped")
    (change,) = planned(facts(spread_over(), unmapped), "rss", queues=2).changes
    assert change.blast is Blast.BLACKHOLE


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"queues": 5}, "5 queues are wanted, and of 4 there are 4"),
        ({"reserve": 4}, "of 4 there are 0"),
        ({"weights": "1 1 1 1 1"}, "weights for 5 queues"),
        ({"key": "00ff"}, "the driver does not show its key"),
        ({"tcp4": "sdfn"}, "does not say what it hashes of tcp4"),
    ],
)
def test_what_cannot_be_is_said(facts: Callable[..., HostFacts], values: Values, reason: str) -> None:
    assert reason in why(planned(facts(spread_over()), "rss", **values))


def test_a_key_that_all_hosts_have_is_replaced_by_the_hosts_own(facts: Callable[..., HostFacts]) -> None:
    for shared in (MICROSOFT, mirrored(40), "00" * 52):
        one = after(planned(facts(spread_over(hash_key=shared), Dmi(uuid="a")), "rss", key="random"))
        other = after(planned(facts(spread_over(hash_key=shared), Dmi(uuid="b")), "rss", key="random"))
        again = after(planned(facts(spread_over(hash_key=shared), Dmi(uuid="a")), "rss", key="random"))
        assert one == again != other
        assert len(str(one[0]["key"])) == len(shared)
        assert not is_shared(str(one[0]["key"]))
    assert planned(facts(spread_over(hash_key="12" * 40)), "rss", key="random").changes == []
    assert after(planned(facts(spread_over(hash_key="12" * 40)), "rss", key="mirrored")) == [{"key": "6d5a" * 20}]


def test_several_reserved_queues_are_a_context_of_their_own(facts: Callable[..., HostFacts]) -> None:
    made = planned(facts(spread_over(contexts=[])), "rss", reserve=2)
    assert after(made) == [{"table": "0-1 over 128"}, {"exists": True}]
    assert why(planned(facts(spread_over(table="0-1 over 128")), "rss", reserve=2)).startswith("the kernel cannot list")


def test_fields_are_compared_whatever_their_order(facts: Callable[..., HostFacts]) -> None:
    assert after(planned(facts(spread_over()), "rss", udp4="nfds")) == [{"udp4": "sdfn"}]
    assert planned(facts(spread_over(fields={"udp4": "sdfn"})), "rss", udp4="nfds").changes == []


def test_fewer_channels_make_a_custom_table_the_default_first(facts: Callable[..., HostFacts]) -> None:
    made = planned(facts(spread_over(table="0*64,3*64 over 128")), "channels", combined=2)
    assert after(made) == [{"table": "0-3 over 128"}, {"combined": 2}]
    assert after(planned(facts(spread_over(table="0*64,1*64 over 128")), "channels", combined=2)) == [{"combined": 2}]
    assert after(planned(facts(spread_over()), "channels", combined=2)) == [{"combined": 2}]
    steered = facts(spread_over(), rules((7, "tcp4 dst-port 80 queue 3")))
    assert "flow rule 7 (tcp4 dst-port 80 queue 3)" in why(planned(steered, "channels", combined=2))


# -- ntuple --


def test_rules_stand_in_their_places_and_no_other_is_touched(facts: Callable[..., HostFacts]) -> None:
    text = "tcp4 dst-port 22 reserved; udp4 src-ip 198.51.100.0/24 drop"
    known = rules((3, "tcp4 dst-port 80 queue 1"), (9, "tcp4 dst-port 81 queue 1"), (12, "udp4 dst-port 1 queue 0"))
    made = planned(facts(spread_over(table="0-2 over 128"), known), "ntuple", rules=text, locations="8-15")
    steps = [(change.op.item, change.op.after["rule"]) for change in made.changes if isinstance(change.op, Request)]
    assert steps == [
        ("12", ""),
        ("8", "tcp4 dst-port 22 queue 3"),
        ("9", "udp4 src-ip 198.51.100.0/24 drop"),
    ]
    assert [change.blast for change in made.changes] == [Blast.SAFE, Blast.SAFE, Blast.BLACKHOLE]


def test_reserved_is_the_context_where_several_queues_are(facts: Callable[..., HostFacts]) -> None:
    shared = spread_over(table="0-1 over 128", contexts=[RssContext(id=4, queues="2-3")])
    made = planned(facts(shared, rules()), "ntuple", rules="tcp6 dst-port 22 reserved", locations="0-1")
    assert after(made) == [{"rule": "tcp6 dst-port 22 context 2-3"}]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"rules": "udp4 drop", "locations": "60-64"}, "locations ends at 64, and the table at 63"),
        ({"rules": "udp4 drop; udp6 drop", "locations": "5"}, "2 rules do not fit into 1 places"),
        ({"rules": "udp4 drop"}, "locations does not say"),
        ({"rules": "tcp4 dst-port 1 queue 4", "locations": "0-3"}, "there is no queue 4 of 4"),
        ({"rules": "tcp4 dst-port 1 reserved", "locations": "0-3"}, "no queue is reserved"),
        ({"rules": "udp4 drop", "locations": "40-43"}, "place 41 has a rule that could not be put back"),
    ],
)
def test_rules_that_cannot_be_are_said(facts: Callable[..., HostFacts], values: Values, reason: str) -> None:
    known = facts(spread_over(), rules((41, "other type 0x12 match 00 mask ff to 0x1")))
    assert reason in why(planned(known, "ntuple", **values))


def test_rules_need_the_feature(facts: Callable[..., HostFacts]) -> None:
    off = facts(rules(), features={"rx-ntuple-filter": False})
    assert why(planned(off, "ntuple", rules="udp4 drop", locations="0-3")) == "needs offloads: {ntuple: true}"


def test_the_feature_is_not_turned_off_over_anybodys_rules(facts: Callable[..., HostFacts]) -> None:
    made = planned(facts(rules((9, "udp4 drop"))), "offloads", ntuple=False)
    assert why(made) == "turning it off deletes 1 flow rules: take them away first"
    assert after(planned(facts(rules()), "offloads", ntuple=False)) == [{"rx-ntuple-filter": False}]


# -- napi and busy_poll --


def instances(*timeouts: int | None) -> Napi:
    each = [NapiInstance(id=8193 + at, irq=100 + at, gro_flush_timeout_ns=ns) for at, ns in enumerate(timeouts)]
    return Napi(key=KEY, ifname="eth0", ifindex=3, threaded=False, gro_flush_timeout_ns=0, instances=each)


def test_one_file_for_all_unless_one_has_its_own(facts: Callable[..., HostFacts]) -> None:
    (change,) = planned(facts(instances(0, 0)), "napi", gro_flush_timeout_ns=20_000).changes
    assert isinstance(change.op, FileWrite)
    assert change.op.path == "/sys/class/net/{ifname}/gro_flush_timeout"
    own = planned(facts(instances(0, 5_000)), "napi", gro_flush_timeout_ns=20_000)
    assert [change.op.item for change in own.changes if isinstance(change.op, Request)] == ["8193", "8194"]


def test_threads_go_where_their_interrupts_are(facts: Callable[..., HostFacts]) -> None:
    made = planned(facts(instances(0, 0)), "napi", threaded=True, pin_threads=True)
    assert after(made) == [{"cpus": "0"}, {"cpus": "1"}]
    assert {change.blast for change in made.changes[1:]} == {Blast.STARVATION}
    assert why(planned(facts(instances(0)), "napi", pin_threads=True)) == "there are no threads: threaded is off"


def test_busy_polling_is_the_hosts(facts: Callable[..., HostFacts]) -> None:
    known = facts(Softnet(busy_read_us=0, busy_poll_us=50))
    (change,) = planned(known, "busy_poll", busy_read=50, busy_poll=50).changes
    assert change.op == FileWrite("/proc/sys/net/core/busy_read", "0", "50")
    assert "no busy polling" in why(planned(facts(Softnet()), "busy_poll", busy_read=50))


# -- coalescing by queue, aRFS --


def test_single_queues_wait_by_themselves(facts: Callable[..., HostFacts]) -> None:
    made = planned(facts(), "coalesce", per_queue="0-1: rx_usecs=8 tx_usecs=50; 1: rx_usecs=50; 3: rx_frames=16")
    assert [(change.op.item, change.op.after) for change in made.changes if isinstance(change.op, Request)] == [
        ("0", {"rx_usecs": 8, "tx_usecs": 50}),
        ("3", {"rx_max_frames": 16}),
    ]
    assert "no queue 4 of 4" in why(planned(facts(), "coalesce", per_queue="4: rx_usecs=8"))
    both = planned(facts(), "coalesce", per_queue="0: rx_usecs=8", rx_usecs=50)
    assert why(both) == "rx_usecs is set for the whole NIC, too"


@pytest.mark.parametrize(
    ("driver", "more", "on", "reason"),
    [
        ("igb", [], True, "the driver igb has no accelerated RFS"),
        ("ice", [rules((1, "udp4 drop"))], True, "ice shares its filters with 1 flow rules"),
        ("mlx5_core", [rules((1, "udp4 drop"))], True, ""),
        ("mlx5_core", [], False, "rx-ntuple-filter is off"),
    ],
)
def test_accelerated_rfs_says_what_is_in_its_way(
    facts: Callable[..., HostFacts], driver: str, more: list[Fact], on: bool, reason: str
) -> None:
    known = facts(*more, driver=driver, features={"rx-ntuple-filter": on})
    skips = planned(known, "rps", accelerated=True, flow_entries=32768).skips
    assert [(skip.status, reason in skip.reason) for skip in skips] == [(OutcomeStatus.FAILED, True)] * bool(reason)


# -- policies --


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ("rss: {weights: 1 1, queues: 2}", "weights say it all"),
        ("rss: {udp4: sdx}", "must be letters of mvtsdfn"),
        ("rss: {key: abc}", "must be random, mirrored, or the key's bytes"),
        ("rss: {weights: 0 0}", "must be a number for each queue"),
        ("ntuple: {rules: udp4 drop}", "rules need locations"),
        ("ntuple: {rules: tcp4 dst-port 22 drop, locations: 0-3}", "would take SSH away"),
        ("ntuple: {rules: ether drop, locations: 0-3}", "would take SSH away"),
        ("ntuple: {rules: tcp4 foo 22 drop, locations: 0-3}", "tcp4 has no 'foo'"),
        ("ntuple: {rules: udp4 drop, locations: x}", "must be the first and the last place"),
        ("napi: {defer_hard_irqs: 2, gro_flush_timeout_ns: 0}", "has no effect"),
        ("napi: {pin_threads: true, threaded: false}", "no threads"),
        ("rps: {accelerated: true}", "accelerated needs flow_entries"),
        ('coalesce: {per_queue: "0: foo=1"}', "must be values by queue"),
    ],
)
def test_lint_says_it(knob: str, message: str) -> None:
    (problem,) = lint(f"name: x\nknobs:\n  {knob}\n")
    assert message in problem.message


def test_a_rule_that_is_only_warned_of_changes_nothing(facts: Callable[..., HostFacts]) -> None:
    setting = Setting(knob="rss", nic=KEY, values={"reserve": 1}, mode=Mode.WARN)
    rule = Setting(knob="ntuple", nic=KEY, values={"rules": "tcp4 dst-port 22 reserved", "locations": "0"})
    made = plan([setting, rule], facts(spread_over(), rules()))
    assert [change.knob for change in made.changes] == ["rss"]
    assert "no queue is reserved" in made.skips[0].reason
