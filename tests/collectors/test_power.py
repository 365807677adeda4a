"""Energy, frequency, idle states and heat on real machines' trees; counters that wrap; sentinels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import cpufreq, power, thermal
from collectors.run import run
from machine import NotPresentError
from machine.live import Live
from tests.collectors.conftest import tarballs, unpacker, write
from tests.collectors.test_exporter import expected
from wire.cpulist import parse_cpulist
from wire.facts import CoolingDevice, Cpufreq, PowerDomain, PowerMeter, ThermalZone, Trip
from wire.report import Sample, Severity, Status

KEPT = r"(?:cpufreq|cpuidle|thermal_throttle|topology|intel_pstate|amd_pstate|powercap|thermal)(?:/|$)"


@pytest.fixture(scope="session")
def trees(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Live]:
    """What CPUs and zones say in a tarball."""
    return unpacker(data, tmp_path_factory, rf"(?:/|^)sys/(?:.*/)?{KEPT}")


def values(items: Any) -> dict[tuple[str, str], float]:
    return {(item.metric, item.key): item.value for item in items if isinstance(item, Sample)}


def test_energy_of_real_machines_goes_by_the_domain_s_name(data: Path, trees: Callable[[str], Live]) -> None:
    names = tarballs(data, r"powercap/.*energy_uj$")
    assert names
    for name in names:
        machine = trees(name)
        found = values(power.collect(machine))
        folder = Path(machine.root, "sys/class/powercap")
        told = {path.parent: int(path.read_text().strip("\n\0 ")) / 1e6 for path in folder.rglob("energy_uj")}
        assert sorted(found.values()) == sorted(round(joules, 6) for joules in told.values()), name
        for path, joules in told.items():
            own = path.joinpath("name").read_text().strip("\n\0 ")
            assert any(key.endswith(own) and value == round(joules, 6) for (_, key), value in found.items()), name


def test_a_zone_is_not_the_package_of_its_number(data: Path, trees: Callable[[str], Live]) -> None:
    name = "sysfs-procfs/pcp/bigsystem.tgz"
    if not (data / name).exists():
        pytest.skip(f"{name} is not among the captures")
    domains = {fact.zone: fact.key for fact in power.collect(trees(name)) if isinstance(fact, PowerDomain)}
    assert domains["intel-rapl:0"] == "package-1"
    assert domains["intel-rapl:1:0"] == "package-0/core"


def test_energy_and_limits_are_what_node_exporter_expects(exporter: Live, data: Path) -> None:
    found = values(power.collect(exporter))
    for kind, key in (("package", "package-0"), ("core", "package-0/core")):
        (joules,) = expected(data, rf"node_rapl_({kind})_joules_total\{{[^}}]*\}}").values()
        assert found["power.energy_joules", key] == joules
    package = next(fact for fact in power.collect(exporter) if isinstance(fact, PowerDomain))
    assert package.wraps_at_j == 262143.32885
    assert [(limit.name, limit.watts, limit.max_watts) for limit in package.limits] == [
        ("long_term", 4090.0, 95.0),
        ("short_term", 4090.0, None),
    ]


def rapl(root: Path, zone: str, energy: int, name: str = "package-0") -> Live:
    folder = f"/sys/class/powercap/{zone}"
    write(
        root,
        {f"{folder}/name": name, f"{folder}/energy_uj": f"{energy}\n", f"{folder}/max_energy_range_uj": "1000000000\n"},
    )
    return Live(str(root))


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    machine = rapl(tmp_path, "intel-rapl:0", 0)
    told: list[float] = []
    for microjoules in (990_000_000, 995_000_000, 5_000_000, 5_000_000, 400_000_000, 0):
        rapl(tmp_path, "intel-rapl:0", microjoules)
        told.append(values(power.collect(machine))["power.energy_joules", "package-0"])
    assert told == [990, 995, 1005, 1005, 1400, 2000]


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, 1e6) | st.none())
def test_energy_never_falls(before: float, now: float, wraps_at: float | None) -> None:
    assert power.spent(before, now, wraps_at) >= 0


def test_a_package_that_two_interfaces_show_is_there_once(tmp_path: Path) -> None:
    for zone, energy in (("intel-rapl:0", 5), ("intel-rapl-mmio:0", 6), ("intel-rapl:1", 7)):
        rapl(tmp_path, zone, energy, name="package-0" if zone.endswith("0") else "psys")
    (tmp_path / "sys/class/powercap/intel-rapl").mkdir()
    domains = [fact for fact in power.collect(Live(str(tmp_path))) if isinstance(fact, PowerDomain)]
    assert [(domain.key, domain.zone) for domain in domains] == [
        ("package-0", "intel-rapl:0"),
        ("psys", "intel-rapl:1"),
    ]
    rapl(tmp_path, "intel-rapl:2", 8, name="psys")
    domains = [fact for fact in power.collect(Live(str(tmp_path))) if isinstance(fact, PowerDomain)]
    assert [domain.key for domain in domains] == ["package-0", "psys (intel-rapl:1)", "psys (intel-rapl:2)"]


def meter(root: Path, **files: int) -> tuple[PowerMeter, dict[tuple[str, str], float]]:
    folder = "/sys/class/hwmon/hwmon0"
    write(
        root, {f"{folder}/name": "power_meter\n", **{f"{folder}/power1_{name}": f"{n}\n" for name, n in files.items()}}
    )
    found = list(power.collect(Live(str(root))))
    return next(fact for fact in found if isinstance(fact, PowerMeter)), values(found)


def test_a_meter_that_has_measured_nothing_yet_says_nothing(tmp_path: Path) -> None:
    fact, numbers = meter(tmp_path, average=0, average_interval=300_000, cap=0, cap_max=4_294_967_295_000_000)
    assert (fact.interval_s, fact.cap_watts, fact.cap_max_watts, numbers) == (300, None, None, {})
    fact, numbers = meter(tmp_path, average=138_000_000, cap=450_000_000, cap_max=900_000_000)
    assert (fact.cap_watts, fact.cap_max_watts, list(numbers.values())) == (450, 900, [138])


def test_frequency_and_idle_states_of_real_machines(data: Path, trees: Callable[[str], Live]) -> None:
    names = tarballs(
        data,
        r"sys/devices/system/cpu/(?:cpu\d+/cpufreq/scaling_governor|cpufreq/policy\d+/scaling_governor|cpu\d+/cpuidle/state\d+/name)$",
    )
    assert names
    for name in names:
        machine = trees(name)
        (fact,) = cpufreq.collect(machine)
        root = Path(machine.root, "sys/devices/system/cpu")
        for policy in fact.policies:
            for cpu in parse_cpulist(policy.cpus):
                said = root / f"cpu{cpu}/cpufreq/scaling_governor"
                if said.exists():
                    assert said.read_text().strip("\n\0 ") == policy.governor, (name, cpu)
        governed = [cpu for policy in fact.policies for cpu in parse_cpulist(policy.cpus)]
        assert len(governed) == len(set(governed)), name
        for path in root.glob("cpu[0-9]*/cpuidle/state*"):
            cpu = int(path.parents[1].name.removeprefix("cpu"))
            called = path.joinpath("name").read_text().strip("\n\0 ") if path.joinpath("name").exists() else ""
            states = [state for state in fact.idle_states if state.name == called and cpu in parse_cpulist(state.cpus)]
            assert states, (name, cpu, called)
            off = path.joinpath("disable")
            if off.exists():
                assert any(
                    (cpu in parse_cpulist(state.disabled)) == (off.read_text().strip() == "1") for state in states
                )


def test_turbo_by_either_driver_and_settings_that_differ(tmp_path: Path) -> None:
    cpus = "/sys/devices/system/cpu"
    for at, governor in enumerate(("performance", "powersave", "performance")):
        write(
            tmp_path,
            {
                f"{cpus}/cpufreq/policy{at}/affected_cpus": f"{2 * at} {2 * at + 1}\n",
                f"{cpus}/cpufreq/policy{at}/scaling_governor": f"{governor}\n",
                f"{cpus}/cpufreq/policy{at}/scaling_max_freq": "<unsupported>\n" if at == 1 else "3700000\n",
            },
        )
    write(tmp_path, {f"{cpus}/intel_pstate/no_turbo": "1\n", f"{cpus}/intel_pstate/status": "active\n"})
    (fact,) = cpufreq.collect(Live(str(tmp_path)))
    assert [(policy.cpus, policy.governor, policy.max_mhz) for policy in fact.policies] == [
        ("0-1,4-5", "performance", 3700),
        ("2-3", "powersave", None),
    ]
    assert (fact.turbo, fact.pstate) == (False, "active")
    (tmp_path / "sys/devices/system/cpu/intel_pstate/no_turbo").unlink()
    write(tmp_path, {f"{cpus}/cpufreq/boost": "1\n"})
    assert next(cpufreq.collect(Live(str(tmp_path)))).turbo is True


def test_a_machine_without_a_choice_has_no_frequencies(tmp_path: Path) -> None:
    write(tmp_path, {"/sys/devices/system/cpu/cpuidle/current_driver": "none\n"})
    with pytest.raises(NotPresentError):
        list(cpufreq.collect(Live(str(tmp_path))))
    assert Cpufreq().key == "cpufreq"


def test_throttle_counts_are_the_most_of_each_core_and_package(data: Path, trees: Callable[[str], Live]) -> None:
    names = tarballs(data, r"thermal_throttle/\w+_count$")
    assert names
    for name in names:
        machine = trees(name)
        found = values(thermal.collect(machine))
        most: dict[tuple[str, str], int] = {}
        for path in Path(machine.root, "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count"):
            cpu = path.parents[1]
            places = [cpu / "topology" / file for file in ("physical_package_id", "core_id")]
            package, core = (int(place.read_text()) if place.exists() else None for place in places)
            kind = path.name.partition("_")[0]
            key = f"package{package or 0}" + (f"/core{core}" if core is not None else f"/{cpu.name}") * (kind == "core")
            most[f"thermal.{kind}_throttles", key] = max(
                most.get((f"thermal.{kind}_throttles", key), 0), int(path.read_text())
            )
        wanted = {key: count for key, count in most.items() if count or "package_" in key[0]}
        assert {key: value for key, value in found.items() if key[0].endswith("_throttles")} == wanted, name


def test_heat_is_what_node_exporter_expects(exporter: Live, data: Path) -> None:
    found = values(thermal.collect(exporter))
    zones = expected(data, r'node_thermal_zone_temp\{type="([^"]+)",zone="\d+"\}')
    assert {(key,): value for (metric, key), value in found.items() if metric == "thermal.zone_celsius"} == zones
    for kind in ("core", "package"):
        labels = r'core="(\d+)",package="(\d+)"' if kind == "core" else r'package="(\d+)"'
        for labelled, count in expected(data, rf"node_cpu_{kind}_throttles_total\{{{labels}\}}").items():
            key = f"package{labelled[-1]}" + f"/core{labelled[0]}" * (kind == "core")
            assert found.get((f"thermal.{kind}_throttles", key), 0) == count
    (device,) = [fact for fact in thermal.collect(exporter) if isinstance(fact, CoolingDevice)]
    assert (device.key, device.max_state, found["thermal.cooling_state", "Processor"]) == ("Processor", 3, 0)


@pytest.mark.parametrize("text", ["-44000", "-273200", "65261850", "-1000000000", "", "(null)", "250000"])
def test_temperatures_that_no_zone_has_are_none(text: str, tmp_path: Path) -> None:
    assert thermal.parse_celsius(text) is None
    fact, found = zone(tmp_path, temp=text)
    assert (fact.type, values(found)) == ("acpitz", {})


def zone(root: Path, *, temp: str = "45000", mode: str = "enabled", **files: str) -> tuple[ThermalZone, list[Any]]:
    folder = "/sys/class/thermal/thermal_zone0"
    write(root, {f"{folder}/type": "acpitz\n", f"{folder}/temp": temp, f"{folder}/mode": mode})
    write(root, {f"{folder}/{name}": content for name, content in files.items()})
    found = list(thermal.collect(Live(str(root))))
    return next(fact for fact in found if isinstance(fact, ThermalZone)), found


def test_trip_points_that_are_switched_off_are_left_out(tmp_path: Path) -> None:
    trips = {
        **{"trip_point_0_type": "critical", "trip_point_0_temp": "105000", "trip_point_0_hyst": "2000"},
        **{"trip_point_1_type": "passive", "trip_point_1_temp": "-274000", "trip_point_1_hyst": "0"},
        **{"trip_point_10_type": "hot", "trip_point_10_temp": "0"},
        **{"trip_point_2_type": "active", "trip_point_2_temp": "55000"},
    }
    fact, _ = zone(tmp_path, **trips)
    assert fact.trips == [Trip(type="critical", celsius=105, hysteresis_c=2), Trip(type="active", celsius=55)]


def test_a_zone_that_is_switched_off_or_said_elsewhere_is_no_sample(tmp_path: Path) -> None:
    assert values(zone(tmp_path, mode="disabled")[1]) == {}
    assert values(zone(tmp_path)[1]) == {("thermal.zone_celsius", "acpitz"): 45}
    assert values(zone(tmp_path, type="x86_pkg_temp")[1]) == {("thermal.zone_celsius", "x86_pkg_temp"): 45}
    write(tmp_path, {"/sys/class/hwmon/hwmon0/name": "coretemp\n"})
    assert values(zone(tmp_path, type="x86_pkg_temp")[1]) == {}


def test_edges_of_trip_points_with_their_hysteresis(tmp_path: Path) -> None:
    folder = "/sys/class/thermal/thermal_zone0"
    write(tmp_path, {f"{folder}/trip_point_0_type": "passive", f"{folder}/trip_point_0_temp": "85000"})
    write(tmp_path, {f"{folder}/trip_point_0_hyst": "5000", f"{folder}/type": "acpitz"})
    write(tmp_path, {f"{folder}/trip_point_1_type": "critical", f"{folder}/trip_point_1_temp": "105000"})
    machine = Live(str(tmp_path))
    said: list[tuple[int, str, Severity]] = []
    for celsius in (90, 90, 70, 86, 82, 79, 106, 90):
        write(tmp_path, {f"{folder}/temp": f"{celsius * 1000}\n"})
        result = run(thermal, machine, 1)
        assert result.status is Status.OK
        said += [(celsius, event.kind, event.severity) for event in result.events]
    assert said == [
        (70, "thermal.cooled", Severity.INFO),
        (86, "thermal.trip", Severity.WARNING),
        (79, "thermal.cooled", Severity.INFO),
        (106, "thermal.trip", Severity.CRITICAL),
        (90, "thermal.trip", Severity.INFO),
    ]


def test_throttling_since_the_last_run_is_one_event_for_a_package(tmp_path: Path) -> None:
    def count(cores: tuple[int, int], package: int) -> None:
        for cpu, core in enumerate(cores):
            folder = f"/sys/devices/system/cpu/cpu{cpu}"
            write(
                tmp_path,
                {
                    f"{folder}/thermal_throttle/core_throttle_count": f"{core}\n",
                    f"{folder}/thermal_throttle/package_throttle_count": f"{package}\n",
                    f"{folder}/thermal_throttle/package_throttle_total_time_ms": f"{package * 50}\n",
                    f"{folder}/topology/physical_package_id": "0\n",
                    f"{folder}/topology/core_id": f"{cpu}\n",
                },
            )

    machine = Live(str(tmp_path))
    count((7, 0), 3)
    assert run(thermal, machine, 1).events == []
    count((9, 1), 5)
    result = run(thermal, machine, 1)
    (event,) = result.events
    assert (event.kind, event.key, event.severity) == ("thermal.throttled", "package0", Severity.WARNING)
    assert event.text == "package0 was throttled for heat: 2 times, 2 of its cores"
    assert values(result.samples)["thermal.throttled_seconds", "package0"] == 0.25
    assert run(thermal, machine, 1).events == []


@given(st.text(st.sampled_from("0123456789 -,<>\n\0\x1b"), max_size=40) | st.text(max_size=20))
def test_these_parsers_take_any_text(text: str) -> None:
    assert all(cpu >= 0 for cpu in cpufreq.parse_cpus(text))
    cpufreq.parse_mhz(text)
    thermal.parse_celsius(text)
    power.parse_watts(text)
    power.parse_window(text)
    power.parse_path(text, {})
