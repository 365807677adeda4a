"""Damping and rules on a clock of the test's: nothing is lost uncounted, order is kept, the last one is told."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from agent.config import Rule
from agent.events.damping import MOST_LANES, Budget, Damping
from agent.events.rules import judge
from wire.report import Event, Severity

COUNTS = ("flapping", "repeated", "limited")
KINDS = ["link.up", "link.down", "sensor.alarm", "sensor.clear", "memory.corrected", "agent.fault"]


def event(at_ms: int, kind: str = "link.down", key: str = "a", severity: Severity = Severity.INFO) -> Event:
    return Event(at_ms=at_ms, kind=kind, key=key, severity=severity, text="", data={"ifname": "eth0"})


def is_count(one: Event) -> bool:
    return one.kind.endswith(COUNTS)


steps = st.lists(
    st.tuples(st.integers(0, 20_000), st.sampled_from(KINDS), st.sampled_from(["a", "b", "c", ""])), max_size=150
)


def played(story: list[tuple[int, str, str]], damping: Damping) -> tuple[list[Event], list[Event]]:
    """What was offered and what came out, with `due` asked as often as it wants to be."""
    offered: list[Event] = []
    out: list[Event] = []
    now_ms = 0
    for pause_ms, kind, key in story:
        until_ms = now_ms + pause_ms
        while (wait_s := damping.wait_s(now_ms / 1000)) * 1000 <= until_ms - now_ms:
            now_ms += int(wait_s * 1000) + 1
            out += damping.due(now_ms / 1000)
        now_ms = max(now_ms, until_ms)
        offered.append(event(len(offered), kind, key))
        out += damping.offer(offered[-1], now_ms / 1000)
    return offered, out + damping.flush()


@given(steps, st.integers(1, 5), st.integers(1, 30))
def test_nothing_is_lost_uncounted_and_order_is_kept(story: list[tuple[int, str, str]], burst: int, whole: int) -> None:
    budget = Budget(burst, 0.1)
    damping = Damping(Budget(whole, 0.5), dict.fromkeys(("link", "sensor", "memory"), budget))
    offered, out = played(story, damping)
    told = [one for one in out if not is_count(one)]
    counted = sum(int(one.data["count"] or 0) for one in out if is_count(one))
    assert len(told) + counted == len(offered)
    assert len({one.at_ms for one in told}) == len(told)
    by_lane: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for one in told:
        by_lane[one.kind.partition(".")[0], one.key].append(one.at_ms)
    assert all(times == sorted(times) for times in by_lane.values())


@given(steps, st.integers(1, 5))
def test_the_last_event_of_a_component_is_told(story: list[tuple[int, str, str]], burst: int) -> None:
    damping = Damping(Budget(1e9, 1), dict.fromkeys(("link", "sensor", "memory"), Budget(burst, 0.1)))
    offered, out = played(story, damping)
    last = {(one.kind.partition(".")[0], one.key): one for one in offered}
    told = {(one.kind.partition(".")[0], one.key): one for one in out if not is_count(one)}
    assert told == last
    assert damping.wait_s(1e9) == float("inf")
    assert damping.flush() == []


@given(steps)
def test_what_the_agent_does_is_never_held_back(story: list[tuple[int, str, str]]) -> None:
    damping = Damping(Budget(1, 0), {})
    for at, (_, _, key) in enumerate(story):
        one = event(at, "policy.applied", key)
        assert damping.offer(one, 0.0) == [one]


def test_a_flapping_link_is_told_at_once_then_counted_then_as_it_is() -> None:
    damping = Damping()
    flaps = [event(at * 100, ("link.down", "link.up")[at % 2], severity=Severity.WARNING) for at in range(21)]
    out = [one for flap in flaps for one in damping.offer(flap, flap.at_ms / 1000)]
    assert out == flaps[:4]
    assert damping.due(6.9) == []
    flapping, last = damping.due(7.0)
    assert (flapping.kind, flapping.key, flapping.severity) == ("link.flapping", "a", Severity.WARNING)
    assert (flapping.data["count"], flapping.data["ifname"]) == (16, "eth0")
    assert flapping.text == "eth0 goes on: 16 more within 1.5 s (link.down 8, link.up 8)"
    assert last is flaps[-1]


def test_one_that_goes_on_is_counted_at_growing_intervals() -> None:
    damping = Damping()
    counts: list[float] = []
    for at in range(2000):
        damping.offer(event(at * 1000), float(at))
        counts += [float(at) for one in damping.due(float(at)) if is_count(one)]
    assert counts[:4] == [14.0, 34.0, 74.0, 154.0]
    assert counts[-1] - counts[-2] == 300.0


def test_a_storm_of_many_components_is_counted_as_one() -> None:
    damping = Damping()
    out = [one for at in range(1000) for one in damping.offer(event(at, "pci.added", str(at)), at / 1000)]
    assert len(out) == 100
    (limited,) = damping.due(20.0)
    assert (limited.kind, limited.data["count"], limited.data["components"]) == ("events.limited", 900, 900)


def test_lanes_are_bounded() -> None:
    damping = Damping(Budget(1e9, 1), {"link": Budget(1, 0)})
    offered = [event(at, key=str(at // 3)) for at in range(3 * (MOST_LANES + 50))]
    out = [one for flap in offered for one in damping.offer(flap, 0.0)]
    beyond = 3 * 50  # without a lane of their own, these go by their family's
    assert len(out) == MOST_LANES + beyond
    counted = sum(int(one.data["count"] or 0) for one in damping.flush() if is_count(one))
    assert counted == MOST_LANES  # and the last one of each is told


def test_rules_in_order_until_one_keeps_or_drops() -> None:
    rules = [
        Rule(kind="link.*", severity=Severity.WARNING, action="hook", hook="page"),
        Rule(kind="link.*", ifname="tap*", action="drop"),
        Rule(kind="link.*", key="52:54:*", action="keep", rate=6),
        Rule(kind="*", data={"simulated": "true"}, action="hook", hook="drill"),
        Rule(kind="*.added", action="drop"),
        Rule(kind="*", action="hook", hook="all"),
    ]
    down = Event(at_ms=0, kind="link.down", key="52:54:00", severity=Severity.WARNING, text="", data={"ifname": "tap0"})
    assert judge(rules, down) == (False, ("page",), None)
    down.data["ifname"] = "eth0"
    assert judge(rules, down) == (True, ("page",), Budget(6, 0.1))
    assert judge(rules, event(0, "pci.added")).keep is False
    assert judge(rules, event(0, "agent.added")).keep is True
    assert judge(rules, event(0, "hook.failed")).hooks == ()
    assert judge(rules, Event(at_ms=0, kind="x.y", text="", data={"simulated": True})).hooks == ("drill", "all")
