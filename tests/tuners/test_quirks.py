"""quirks.yaml: well-formed, about knobs that there are, and heeded by the planner."""

import re
from collections.abc import Callable

import pytest
from msgspec import structs

from tuners import planner, quirks
from tuners.hostfacts import HostFacts
from tuners.quirks import Quirk
from tuners.registry import BY_NAME
from tuners.rounding import ring_stands, rounded
from wire.facts import Dmi
from wire.policy import OutcomeStatus, Setting, Values

Host = Callable[..., HostFacts]
KEY = "52:54:00:00:00:03"
RANGE = re.compile(r"(?:>=|<=|<|>|==)\d+(?:\.\d+)*")
WAY = re.compile(r"(?:up|down) [1-9]\d*|power (?:up|down)")


@pytest.mark.parametrize("row", quirks.rows(), ids=lambda row: f"{row.knob}-{row.effect}-{'-'.join(row.drivers)}")
def test_each_row_can_be_meant(row: Quirk) -> None:
    assert row.knob in BY_NAME
    assert set(row.values) <= set(BY_NAME[row.knob].VALUES)
    assert row.note.strip()
    assert "|" not in row.note
    assert len(row.source) > 5
    assert bool(row.number > 0) == (row.effect in ("cap", "settle_s"))
    assert bool(row.round) == (row.effect == "round")
    assert all(WAY.fullmatch(way) for way in row.round)
    for limits in (row.kernel, row.firmware):
        assert all(RANGE.fullmatch(limit) for limit in limits.split())


def test_no_row_stands_twice() -> None:
    whose = [(row.knob, row.effect, driver, row.kernel) for row in quirks.rows() for driver in row.drivers or ["*"]]
    assert len(whose) == len(set(whose))


def with_kernel(facts: HostFacts, kernel: str, **nic: str) -> HostFacts:
    return facts.replace([Dmi(kernel=kernel), structs.replace(facts.nics[KEY], **nic)])


@pytest.mark.parametrize(
    ("kernel", "driver", "made"),
    [
        ("5.8.0-41-generic", "ice", False),
        ("5.8.0", "i40e", False),
        ("5.8.1", "ice", True),
        ("5.7.19", "ice", True),
        ("6.12.43+deb12-amd64", "ice", True),
        ("5.8.0", "mlx5_core", True),
        ("", "ice", True),
        ("custom", "ice", True),
    ],
)
def test_a_refusal_is_for_its_driver_and_kernels(host: Host, kernel: str, driver: str, made: bool) -> None:
    wanted = [Setting(knob="irq_affinity", nic=KEY, values={"placement": "local"})]
    plan = planner.plan(wanted, with_kernel(host(), kernel, driver=driver))
    assert bool(plan.changes) is made
    if not made:
        assert [(skip.status, skip.reason) for skip in plan.skips] == [
            (OutcomeStatus.UNSUPPORTED, f"{driver}: kernel 5.8.0 loses interrupt affinity")
        ]


@pytest.mark.parametrize(("driver", "most"), [("ixgbevf", 4), ("ixgbe", 8), ("ice", 8)])
def test_a_cap_bounds_what_is_chosen(host: Host, driver: str, most: int) -> None:
    wanted = [Setting(knob="channels", nic=KEY, values={"combined": "max"})]
    facts = with_kernel(host(), "6.12", driver=driver)
    fact = structs.replace(facts.ethtool[KEY], channels={"combined": 2, "combined_max": 64})
    (change,) = planner.plan(wanted, facts.replace([fact])).changes
    after: Values = getattr(change.op, "after")  # noqa: B009
    assert after == {"combined": most}


def test_firmware_ranges_and_unknown_drivers(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    old = Quirk(knob="rings", effect="refuse", note="old", source="test", drivers=["mlx5_*"], firmware="<22.31")
    known = Quirk(knob="xps", effect="refuse", note="unknown", source="test", unless=["ice"], values=["mode"])

    def rows_of(knob: str, effect: str) -> list[Quirk]:
        return [row for row in (old, known) if (row.knob, row.effect) == (knob, effect)]

    monkeypatch.setattr(quirks, "_of", rows_of)
    rings = Setting(knob="rings", nic=KEY, values={"rx": 1024})
    for firmware, why in (("22.30.1004 (MT_0000000080)", "mlx5_core: old"), ("22.31.1014", ""), ("n/a", ""), ("", "")):
        assert quirks.refused(rings, with_kernel(host(), "6", driver="mlx5_core", firmware=firmware)) == why
    xps = Setting(knob="xps", nic=KEY, values={"mode": "auto"})
    assert quirks.refused(xps, with_kernel(host(), "6", driver="ice")) == ""
    assert quirks.refused(xps, with_kernel(host(), "6", driver="newcomer")) == "newcomer: unknown"
    assert quirks.refused(structs.replace(xps, values={}), with_kernel(host(), "6", driver="newcomer")) == ""


def test_settling_and_what_people_are_told(host: Host) -> None:
    facts = host()
    assert quirks.settle_s("channels", facts.nics[KEY], facts) == 5
    assert quirks.settle_s("rings", facts.nics[KEY], facts) == 0
    made = planner.plan([Setting(knob="channels", nic=KEY, values={"combined": 2})], facts).changes
    assert quirks.settling_s(made, facts) == 5
    assert quirks.settling_s([], facts) == 0
    assert "idpf: loses interrupt affinity" in quirks.column("rings")


@pytest.mark.parametrize(
    ("driver", "wanted", "reads"),
    [("igb", 1001, [1001, 1008]), ("ice", 1001, [1001, 1024]), ("ena", 1001, [1001, 512]), ("new", 1001, [1008, 1024])],
)
def test_roundings_by_driver(driver: str, wanted: int, reads: list[int]) -> None:
    assert [read for read in range(1, 2048) if ring_stands(driver, read, wanted)] == sorted({wanted, *reads})
    assert rounded("down 4", 7) == 4
