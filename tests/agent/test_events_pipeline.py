"""The way of an event: harmless texts, drops that are counted, hooks for what goes through, and settings of others."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent import journal
from agent.config import Rule
from agent.events.knobs import Knobs, ours
from agent.events.pipeline import DROPPED_EVERY_S, MAX_DATA, MAX_TEXT, Pipeline, tidy
from machine.live import Live
from machine.monitor import Notice
from wire.facts import Ethtool
from wire.policy import Change, Request
from wire.report import Event

DATA = st.dictionaries(st.text(max_size=99), st.text(max_size=400) | st.integers() | st.none(), max_size=90)


class Asked:
    """Notes what hooks were asked for, and runs none."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def ask(self, hook: str, event: Event) -> None:
        self.kinds.append(f"{hook} {event.kind}")

    def step(self) -> list[Event]:
        return []

    def filenos(self) -> list[int]:
        return []

    def wait_s(self) -> float:
        return float("inf")

    def close(self) -> None:
        pass


def event(kind: str, at_ms: int = 1, key: str = "") -> Event:
    return Event(at_ms=at_ms, kind=kind, key=key, text=kind)


def test_what_rules_drop_is_counted_and_told_after_an_hour() -> None:
    pipeline = Pipeline([Rule(kind="address.*", action="drop")])
    for at in range(3):
        assert pipeline.offer([event("address.added", key=str(at))], float(at)) == []
    assert pipeline.wait_s(2.0) == DROPPED_EVERY_S - 2.0
    (told,) = pipeline.due(DROPPED_EVERY_S)
    assert (told.kind, told.data["count"]) == ("events.dropped", 3)
    assert told.text == "rules dropped 3 events (address.added 3)"
    assert pipeline.wait_s(DROPPED_EVERY_S) == float("inf")
    assert pipeline.flush() == []


def test_hooks_are_asked_for_what_goes_through_and_for_counts() -> None:
    asked = Asked()
    pipeline = Pipeline([Rule(kind="link.*", action="hook", hook="page")], asked)
    flaps = [event(("link.down", "link.up")[at % 2], at) for at in range(10)]
    assert pipeline.offer(flaps, 0.0) == flaps[:4]
    assert asked.kinds == ["page link.down", "page link.up"] * 2
    told = pipeline.flush()
    assert [one.kind for one in told] == ["link.flapping", "link.up"]


def test_hooks_hear_of_flapping_and_of_how_it_ended() -> None:
    asked = Asked()
    pipeline = Pipeline([Rule(kind="link.*", action="hook", hook="page")], asked)
    pipeline.offer([event("link.down", at) for at in range(10)], 0.0)
    pipeline.due(60.0)
    assert asked.kinds[4:] == ["page link.flapping", "page link.down"]


@given(st.text(), st.text(), DATA)
def test_every_text_is_one_bounded_line(key: str, text: str, data: dict[str, str | int | float | bool | None]) -> None:
    made = tidy(Event(at_ms=1, kind="x.y", key=key, text=text, data=data))
    texts = [made.key, made.text, *made.data, *(value for value in made.data.values() if isinstance(value, str))]
    assert all(one.isprintable() for one in texts)
    assert len(made.text) <= MAX_TEXT
    assert len(made.data) <= MAX_DATA


# -- settings of others ------------------------------------------------------------------------------------------------

FACT = Ethtool(key="mac", ifname="eth0", ifindex=3, rings={"rx": 256, "tx": 256, "rx_max": 4096})


def rings(rx: int) -> Notice:
    return Notice("rings", 3, "eth0", settings={"rx": rx, "tx": 256, "rx_max": 4096})


def test_a_setting_is_told_with_what_it_was() -> None:
    knobs = Knobs(Live())
    assert knobs.events(rings(256), FACT, "mac", set(), 5) == []  # set to what it was
    (first,) = knobs.events(rings(512), FACT, "mac", set(), 5)
    assert first.text == "somebody changed rings of eth0: rx 256 → 512"
    assert (first.key, first.data) == ("mac", {"ifname": "eth0", "knob": "rings", "rx": 512})
    (second,) = knobs.events(rings(1024)._replace(by="ethtool"), FACT, "mac", set(), 6)
    assert second.text == "somebody changed rings of eth0 (perhaps by ethtool): rx 512 → 1024"
    assert knobs.events(rings(2048), FACT, "mac", {3}, 7) == []
    (after_ours,) = knobs.events(rings(512), FACT, "mac", set(), 8)
    assert after_ours.text.endswith("rx 2048 → 512")
    (unknown,) = knobs.events(Notice("eee", 3, "eth0"), FACT, "mac", set(), 9)
    assert unknown.text == "somebody changed eee of eth0"


def test_whose_interfaces_are_ours(tmp_path: Path) -> None:
    assert ours(tmp_path) == set()
    made = journal.create(tmp_path, journal.opened(tmp_path, 60.0))
    op = Request(message="rings", before={"rx": 256}, after={"rx": 512}, ifindex=3, ifname="eth0")
    made.append(journal.Staged(changes=[Change(knob="rings", target="eth0", op=op)]))
    made.close()
    assert ours(tmp_path) == {3}
    made.path.write_bytes(b"torn")
    assert ours(tmp_path) == set()
