"""Heat, power, fans, power supplies and CPU speed of a guest, as its collectors see what the host and its chips do."""

import pytest

from hardware_lab import chips
from hardware_lab.chips import ADT7475, DPS800, JC42, LM75, MAX6639
from tests.lab.collecting import Seen, Watch, seen
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
CPUFREQ = "/sys/devices/system/cpu/cpufreq"


def until(bench: Bench, name: str, metric: str, key: str, value: float) -> Seen:
    """What the collector says once a sample has that value: drivers keep readings for a while."""
    last: list[Seen] = []

    def there() -> bool:
        last[:] = seen(bench, name)
        return last[0].samples.get((metric, key)) == value

    wait_for(there, f"{metric} of {key} to be {value}")
    return last[0]


def test_power_heat_and_fan_are_what_the_host_sets(server: Bench) -> None:
    with server.values() as values:
        values.set("power_w", 641.5)
        values.set("fan_rpm", 9100)
        values.set("cpu_c", 48.5)
        values.set("board_c", 41)
        power = until(server, "power", "power.watts", "ACPI000D:00/power_meter/power1", 641.5)
        fans = until(server, "fans", "fans.rpm", "PNP0C0B:00/acpi_fan/fan1", 9100)
        thermal = until(server, "thermal", "thermal.zone_celsius", "acpitz", 48.5)
        server.guest.write("/sys/bus/acpi/drivers/power_meter/ACPI000D:00/power1_cap", "450000000")
        wait_for(lambda: values.get("cap_w") == 450, "the power cap")
    assert power.one("power_meter")["interval_s"] > 0
    assert seen(server, "power")[0].one("power_meter")["cap_watts"] == 450
    assert fans.one("fan")["channel"] == "fan1"
    assert thermal.samples["thermal.zone_celsius", "acpitz#2"] == pytest.approx(41, abs=0.15)
    zones = {fact["key"]: fact for fact in thermal.facts if fact["kind"] == "thermal_zone"}
    trips = {trip["type"]: trip["celsius"] for trip in zones["acpitz"]["trips"]}
    assert trips["critical"] == 105
    assert {"passive", "active"} <= set(trips)
    fan = next(fact for fact in thermal.facts if fact.get("type") == "Fan")
    assert fan["key"] in zones["acpitz"]["cooling"]
    assert [trip["type"] for trip in zones["acpitz#2"]["trips"]] == ["critical"]
    (hwmon,) = seen(server, "hwmon")
    assert hwmon.status == "absent", "every number of these has a collector of its own"


def test_a_trip_point_that_is_passed_is_an_event_and_cooling_down_another(server: Bench) -> None:
    watch = Watch(server, "thermal")
    passive = next(
        int(server.guest.read(f"/sys/class/thermal/thermal_zone0/trip_point_{at}_temp")) / 1000
        for at in range(4)
        if server.guest.read(f"/sys/class/thermal/thermal_zone0/trip_point_{at}_type").strip() == "passive"
    )
    with server.values() as values:
        values.set("cpu_c", passive + 3)
        hot = watch.wait("thermal.trip")
        values.set("cpu_c", 45)
        cool = watch.wait("thermal.cooled")
    assert (hot["key"], hot["severity"]) == ("acpitz", "warning")
    assert "is past its passive trip point" in hot["text"]
    assert (cool["key"], cool.get("severity", "info")) == ("acpitz", "info")


def test_what_cools_is_a_sample(server: Bench) -> None:
    (before,) = seen(server, "thermal")
    fan = next(fact for fact in before.facts if fact.get("type") == "Fan")
    server.guest.write(f"/sys/class/thermal/{fan['device']}/cur_state", "70")
    until(server, "thermal", "thermal.cooling_state", fan["key"], 70)
    assert fan["max_state"] == int(server.guest.read(f"/sys/class/thermal/{fan['device']}/max_state"))


def test_speed_and_sleep_of_cpus_are_what_is_set(server: Bench) -> None:
    cpus = server.vm.server.machine.cpus
    for cpu in range(cpus):
        server.guest.write(f"{CPUFREQ}/policy{cpu}/scaling_governor", "performance")
    server.guest.write(f"{CPUFREQ}/policy1/scaling_max_freq", "1200000")
    server.guest.write("/sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "1")
    (told,) = seen(server, "cpufreq")
    fact = told.one("cpufreq")
    slow = next(policy for policy in fact["policies"] if policy["cpus"] == "1")
    fast = next(policy for policy in fact["policies"] if policy["cpus"] != "1")
    assert (slow["driver"], slow["governor"], slow["max_mhz"]) == ("acpi-cpufreq", "performance", 1200)
    assert (fast["max_mhz"], fast["hardware_max_mhz"], fast["hardware_min_mhz"]) == (2900, 2900, 1200)
    assert fast["cpus"] == "0,2-3"
    states = {state["name"]: state for state in fact["idle_states"]}
    assert states["C1"]["cpus"] == "0-3"
    assert states["C1"]["disabled"] == "2"


def test_fans_and_power_supply_on_a_bus(server: Bench) -> None:
    chips.load(server.guest)
    hwmon, fans, psu = seen(server, "hwmon", "fans", "psu")

    found = {fact["key"].partition("/")[2]: fact for fact in fans.facts}
    assert {key for key in found if key.startswith("adt7475")} == {f"adt7475/fan{at}" for at in range(1, 5)}
    assert found["adt7475/fan1"]["pwm"] == "manual"
    assert {key for key in found if key.startswith("max6639")} == {"max6639/fan1", "max6639/fan2"}
    speeds = {key.partition("/")[2]: value for (metric, key), value in fans.samples.items() if metric == "fans.rpm"}
    assert speeds["adt7475/fan3"] == pytest.approx(ADT7475.start["fan3"], rel=0.01)
    assert speeds["max6639/fan2"] == pytest.approx(MAX6639.start["fan2"], rel=0.02)
    duties = {
        key.partition("/")[2]: value for (metric, key), value in fans.samples.items() if metric == "fans.pwm_percent"
    }
    assert duties["adt7475/fan1"] == pytest.approx(100 * 128 / 255, abs=0.1)

    supply = psu.one("psu")
    assert supply["chip"].endswith("/dps800")
    told = {(metric, key.removeprefix(f"{supply['key']}/")): value for (metric, key), value in psu.samples.items()}
    assert told["psu.volts", "vin"] == pytest.approx(DPS800.start["in1"], rel=0.005)
    assert told["psu.watts", "pout1"] == pytest.approx(DPS800.start["power2"], rel=0.005)
    assert told["psu.fan_rpm", "fan1"] == pytest.approx(DPS800.start["fan1"], rel=0.005)
    assert "alarms" not in supply

    rest = {fact["key"].partition("/")[2] for fact in hwmon.facts}
    assert {"lm75/temp1", "jc42/temp1", "adt7475/temp1", "max6639/temp2"} <= rest
    assert not any(name.startswith("dps800") or "fan" in name or "power" in name for name in rest)


def test_alarms_of_fan_and_power_supply_show_and_go(server: Bench) -> None:
    chips.load(server.guest, (ADT7475, DPS800, LM75, JC42))
    folder = chips.folder(server.guest, ADT7475)
    server.guest.write(f"{folder}/fan3_min", "1000")
    chips.set_alarm(server.guest, ADT7475, "fan3_alarm")
    chips.set_alarm(server.guest, DPS800, "in1_lcrit_alarm")

    def alarms() -> tuple[set[str], list[str]]:
        fans, psu = seen(server, "fans", "psu")
        return {fact["channel"] for fact in fans.facts if fact.get("alarm")}, psu.one("psu").get("alarms", [])

    wait_for(lambda: alarms() == ({"fan3"}, ["in1_lcrit_alarm"]), f"both alarms: {alarms()}")
    chips.set_alarm(server.guest, ADT7475, "fan3_alarm", on=False)
    chips.set_alarm(server.guest, DPS800, "in1_lcrit_alarm", on=False)
    wait_for(lambda: alarms() == (set(), []), f"no alarm: {alarms()}")
    chips.set_value(server.guest, ADT7475, "fan3", 0)
    until(
        server, "fans", "fans.rpm", next(f["key"] for f in seen(server, "fans")[0].facts if f["channel"] == "fan3"), 0
    )
