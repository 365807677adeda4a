"""channels, rings, offloads, coalesce: values against what the driver offers."""

from collections.abc import Callable

import pytest

from tuners.hostfacts import HostFacts
from tuners.planner import LATER, plan, project
from wire.facts import Ethtool, Fact
from wire.policy import Blast, Mode, OutcomeStatus, Plan, Request, Setting, Skip, Values

Make = Callable[..., list[Fact]]
Host = Callable[..., HostFacts]
ETH0 = "52:54:00:00:00:03"


def one(facts: HostFacts, knob: str, values: Values) -> tuple[Values, list[Skip]]:
    """What would be set, having checked that the plan after it is empty."""
    setting = Setting(knob=knob, nic=ETH0, values=values)
    made = plan([setting], facts)
    assert plan([setting], project(facts, made)).changes == []
    ops = [change.op for change in made.changes]
    assert len(ops) <= 1
    return (ops[0].after if ops and isinstance(ops[0], Request) else {}), made.skips


def ethtool(facts: HostFacts, **fields: object) -> HostFacts:
    """The host with other ethtool fields."""
    fact = facts.ethtool[ETH0]
    for name, value in fields.items():
        setattr(fact, name, value)
    return facts


@pytest.mark.parametrize(
    ("channels", "value", "expected"),
    [
        ({"combined": 8, "combined_max": 64}, {"combined": "auto"}, {"combined": 4}),
        ({"combined": 8, "combined_max": 2}, {"combined": "auto"}, {"combined": 2}),
        ({"combined": 4, "combined_max": 64}, {"combined": "max"}, {"combined": 8}),
        ({"combined": 4, "combined_max": 64}, {"combined": 4}, {}),
        ({"rx": 1, "rx_max": 4, "tx": 1, "tx_max": 2}, {"combined": "auto"}, {"rx": 4, "tx": 2}),
        ({"rx": 1, "rx_max": 4, "tx": 1, "tx_max": 2}, {"rx": 3}, {"rx": 3}),
    ],
)
def test_channels(host: Host, channels: dict[str, int], value: Values, expected: Values) -> None:
    assert one(ethtool(host(), channels=channels), "channels", value) == (expected, [])


def test_auto_counts_physical_housekeeping_cores(host: Host, cpus: Make, nic: Make) -> None:
    machine = cpus(nodes=[range(8)], smt=[(n, n + 4) for n in range(4)], isolated="3,7")
    assert one(host(machine, nic(cpus=["0"])), "channels", {"combined": "auto"})[0] == {"combined": 3}


def test_auto_stops_at_what_rss_can_spread_over(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(nodes=[range(32)]), nic(driver="ixgbe", cpus=["0"]))
    assert one(facts, "channels", {"combined": "auto"})[0] == {"combined": 16}


@pytest.mark.parametrize(
    ("channels", "value", "reason"),
    [
        ({"combined": 4, "combined_max": 6}, {"combined": 7}, "combined=7 is more than the 6 this driver offers"),
        ({"combined": 4, "combined_max": 64}, {"combined": 9}, "combined=9 is more than the 8 CPUs online"),
        ({"combined": 4, "combined_max": 64}, {"rx": 1}, "the driver has no rx channels"),
        ({"rx": 1, "rx_max": 4, "tx": 1, "tx_max": 2}, {"tx": 0}, "no tx queue would be left"),
    ],
)
def test_impossible_channels_fail_and_change_nothing(
    host: Host, channels: dict[str, int], value: Values, reason: str
) -> None:
    changes, skips = one(ethtool(host(), channels=channels), "channels", value)
    assert (changes, [(skip.status, skip.reason) for skip in skips]) == ({}, [(OutcomeStatus.FAILED, reason)])


@pytest.mark.parametrize("knob", ["channels", "rings", "coalesce", "offloads"])
def test_a_driver_without_the_operation_is_unsupported(host: Host, knob: str) -> None:
    facts = ethtool(host(), channels={}, rings={}, coalesce={}, features={})
    values: dict[str, Values] = {
        "channels": {"combined": "max"},
        "rings": {"rx": "max"},
        "coalesce": {"rx_usecs": 1},
        "offloads": {"gro": True},
    }
    changes, skips = one(facts, knob, values[knob])
    assert (changes, [(s.status, s.reason) for s in skips]) == (
        {},
        [(OutcomeStatus.UNSUPPORTED, "unsupported by the driver")],
    )


@pytest.mark.parametrize(
    ("driver", "current", "wanted", "expected"),
    [
        ("ice", 512, "max", {"rx": 8192}),
        ("ice", 8192, "max", {}),
        ("ice", 1024, 1000, {}),
        ("ice", 1008, 1000, {"rx": 1000}),
        ("ixgbe", 1000, 997, {}),
        ("ixgbe", 1024, 997, {"rx": 997}),
        ("mlx5_core", 1024, 600, {}),
        ("ena", 512, 600, {}),
        ("ena", 1024, 600, {"rx": 600}),
        ("somebody", 1024, 600, {}),
        ("somebody", 608, 600, {}),
        ("somebody", 512, 600, {"rx": 600}),
    ],
)
def test_rings_know_the_drivers_rounding(  # noqa: PLR0917
    host: Host, cpus: Make, nic: Make, driver: str, current: int, wanted: int | str, expected: Values
) -> None:
    facts = ethtool(host(cpus(), nic(driver=driver)), rings={"rx": current, "rx_max": 8192})
    assert one(facts, "rings", {"rx": wanted}) == (expected, [])


def test_rings_above_the_maximum_fail_and_the_other_ring_is_still_set(host: Host) -> None:
    changes, skips = one(host(), "rings", {"rx": 9000, "tx": 1024})
    assert changes == {"tx": 1024}
    assert skips[0].status is OutcomeStatus.FAILED
    assert skips[0].reason == "rx=9000 is more than the 8192 this driver offers"


@pytest.mark.parametrize(
    ("current", "wanted", "expected"),
    [
        (50, 50, {}),
        (48, 50, {}),
        (52, 50, {}),
        (64, 50, {}),
        (56, 50, {"rx_usecs": 50}),
        (3, 0, {"rx_usecs": 0}),
        (0, 3, {"rx_usecs": 3}),
        (4, 8, {"rx_usecs": 8}),
    ],
)
def test_coalesce_knows_rounding_and_that_0_is_off(host: Host, current: int, wanted: int, expected: Values) -> None:
    facts = ethtool(host(), coalesce={"rx_usecs": current, "use_adaptive_rx": False})
    assert one(facts, "coalesce", {"rx_usecs": wanted}) == (expected, [])


def test_adaption_is_turned_off_in_the_same_request_as_fixed_values(host: Host) -> None:
    facts = ethtool(host(), coalesce={"rx_usecs": 50, "use_adaptive_rx": True})
    assert one(facts, "coalesce", {"adaptive_rx": False, "rx_usecs": 8})[0] == {"use_adaptive_rx": False, "rx_usecs": 8}


@pytest.mark.parametrize("values", [{"rx_usecs": 8}, {"rx_usecs": 8, "adaptive_rx": True}])
def test_what_adaption_moves_is_not_drift(host: Host, values: Values) -> None:
    facts = ethtool(host(), coalesce={"rx_usecs": 50, "use_adaptive_rx": True})
    changes, skips = one(facts, "coalesce", values)
    assert changes == {}
    assert "adaptive_rx is on" in skips[0].reason


def test_kernel_names_of_coalescing(host: Host) -> None:
    values: Values = {"adaptive_tx": True, "rx_frames": 64, "rx_usecs": 8}
    assert one(host(), "coalesce", values)[0] == {"use_adaptive_tx": True, "rx_max_frames": 64, "rx_usecs": 8}


def test_offloads_by_short_and_by_kernel_name(host: Host) -> None:
    assert one(host(), "offloads", {"gro": False, "tso": False})[0] == {"rx-gro": False, "tx-tcp-segmentation": False}
    assert one(host(), "offloads", {"rx-lro": True})[0] == {"rx-lro": True}
    assert one(host(), "offloads", {"gro": False, "rx-gro": True})[0] == {}


def test_fixed_and_missing_features_are_skipped_by_name(host: Host) -> None:
    facts = ethtool(host(), features_fixed=["rx-lro"])
    changes, skips = one(facts, "offloads", {"lro": True, "gro": False, "rxhash": True})
    assert changes == {"rx-gro": False}
    assert [skip.reason for skip in skips] == ["the driver has no rx-hashing", "rx-lro is fixed off by the driver"]


def test_a_fixed_feature_that_is_as_wanted_is_no_skip(host: Host) -> None:
    assert one(ethtool(host(), features_fixed=["rx-lro"]), "offloads", {"lro": False}) == ({}, [])


def test_a_short_name_is_content_with_what_is_fixed_as_wanted(host: Host) -> None:
    facts = ethtool(host(), features={"tx-checksum-ip-generic": True}, features_fixed=["tx-checksum-ip-generic"])
    assert one(facts, "offloads", {"tx": True}) == ({}, [])


def test_only_coalescing_is_safe_on_the_wire(host: Host) -> None:
    settings = [
        Setting(knob="channels", nic=ETH0, values={"combined": 2}),
        Setting(knob="rings", nic=ETH0, values={"rx": "max"}),
        Setting(knob="offloads", nic=ETH0, values={"gro": False}),
        Setting(knob="coalesce", nic=ETH0, values={"rx_usecs": 8}),
    ]
    made = plan(settings, host())
    assert [(change.knob, change.blast) for change in made.changes] == [
        ("channels", Blast.LINK),
        ("rings", Blast.LINK),
        ("offloads", Blast.LINK),
        ("coalesce", Blast.SAFE),
    ]


def both(mode: Mode = Mode.ENFORCE) -> list[Setting]:
    return [
        Setting(knob="irq_affinity", nic=ETH0, values={}),
        Setting(knob="channels", nic=ETH0, values={"combined": 2}, mode=mode),
    ]


def test_placement_waits_for_the_queues(host: Host) -> None:
    made = plan(both(), host())
    assert [change.knob for change in made.changes] == ["channels"]
    assert [(skip.knob, skip.target, skip.reason) for skip in made.skips] == [("irq_affinity", "eth0", LATER)]


def test_placement_does_not_wait_for_queues_that_only_warn(host: Host) -> None:
    assert {change.knob for change in plan(both(Mode.WARN), host()).changes} == {"channels", "irq_affinity"}


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (Setting(knob="ring", nic=ETH0, values={}), "this version has no knob 'ring'"),
        (Setting(knob="rings", nic="gone", values={"rx": 1}), "no such NIC on this host"),
        (Setting(knob="rings", nic=ETH0, values={"size": 1}), "this version has no value rings.size"),
        (
            Setting(knob="rings", nic=ETH0, values={"rx": "huge"}),
            'rx must be a whole number from 1 to 1048576, or "max", not "huge"',
        ),
        (Setting(knob="offloads", nic=ETH0, values={"gro": 1}), "gro must be true or false, not 1"),
    ],
)
def test_unsound_settings_fail_alone(host: Host, setting: Setting, reason: str) -> None:
    sound = Setting(knob="rings", nic=ETH0, values={"tx": 1024})
    made = plan([setting, sound], host())
    assert [(skip.status, skip.reason) for skip in made.skips] == [(OutcomeStatus.FAILED, reason)]
    assert len(made.changes) == 1


def test_a_missing_ethtool_fact_is_no_crash(host: Host) -> None:
    facts = host()
    gone = facts.replace([], [facts.ethtool[ETH0]])
    made = plan([Setting(knob="rings", nic=ETH0, values={"rx": 1})], gone)
    assert isinstance(made, Plan)
    assert made.changes == []


def test_before_is_what_the_fact_says(host: Host) -> None:
    made = plan([Setting(knob="rings", nic=ETH0, values={"rx": "max", "tx": 1024})], host())
    op = made.changes[0].op
    assert isinstance(op, Request)
    fact: Ethtool = host().ethtool[ETH0]
    assert op.before == {name: fact.rings[name] for name in op.after}
