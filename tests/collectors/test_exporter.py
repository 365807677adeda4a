"""hwmon, softnet, memory, pci and nic on node_exporter's fixtures, against the metrics it expects of them."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from collectors import fans, hwmon, load, memory, nic, power, queues, softnet
from collectors.links import read_sysfs_link
from machine.live import Live
from wire.facts import Fact, Hwmon
from wire.report import Event, Sample

METRICS = {
    "temp_celsius": (hwmon, "hwmon.temp_celsius"),
    "fan_rpm": (fans, "fans.rpm"),
    "in_volts": (hwmon, "hwmon.in_volts"),
    "power_watt": (power, "power.watts"),
}


def expected(data: Path, pattern: str) -> dict[tuple[str, ...], float]:
    text = (data / "sysfs-procfs/node_exporter/e2e-output.txt").read_text()
    rows = re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE)
    return {tuple(row[:-1]): float(row[-1]) for row in rows}


def samples(items: Iterable[Fact | Sample | Event]) -> dict[tuple[str, str], float]:
    return {(item.metric, item.key): item.value for item in items if isinstance(item, Sample)}


def sensors(machine: Live) -> dict[str, Hwmon]:
    return {fact.key: fact for fact in hwmon.collect(machine) if isinstance(fact, Hwmon)}


def same_sensor(key: str, chip: str, sensor: str) -> bool:
    """True when node_exporter's chip, named after bus and device or chip, is the one of our key."""
    device, name, channel = key.split("/")
    ends = tuple(re.sub(r"[^a-z0-9]+", "_", word.lower()) for word in (device, name.replace("unnamed", "hwmon4")))
    return channel == sensor and chip.endswith(ends)


@pytest.mark.parametrize("metric", METRICS)
def test_readings_are_those_that_node_exporter_expects(metric: str, exporter: Live, data: Path) -> None:
    wanted = expected(data, rf'node_hwmon_{metric}\{{chip="([^"]+)",sensor="(\w+)"\}}')
    wanted = {sensor: value for sensor, value in wanted.items() if "nvme" not in sensor[0]}  # asked by `smart`, rarely
    collector, name = METRICS[metric]
    ours = [(key, value) for (found, key), value in samples(collector.collect(exporter)).items() if found == name]
    for key, value in ours:
        theirs = next(other for other in wanted if same_sensor(key, *other) and wanted[other] == value)
        del wanted[theirs]
    assert wanted == {}


def test_limits_and_alarms_that_mean_nothing_are_left_out(exporter: Live) -> None:
    found = sensors(exporter)
    core = found["coretemp.0/coretemp/temp1"]
    assert (core.label, core.unit, core.max, core.crit, core.alarm) == ("Physical id 0", "°C", 84.0, 100.0, False)
    twisted = found["virtual/nct6779/in1"]
    assert (twisted.min, twisted.max, twisted.alarm) == (None, None, False)  # min = max = 0, alarm latched
    assert not any(key.endswith(("intrusion0", "pwm1")) for key in found)


def test_two_sockets_and_two_labels_alike_have_keys_of_their_own(exporter: Live) -> None:
    found = sensors(exporter)
    assert found["coretemp.0/coretemp/temp2"].label == found["coretemp.1/coretemp/temp2"].label == "Core 0"
    assert [found[f"virtual/unnamed/temp{n}"].label for n in (1, 2)] == ["foosensor", "foosensor"]


def test_softnet_counters_are_those_that_node_exporter_expects(exporter: Live, data: Path) -> None:
    rows = softnet.parse_softnet(exporter.read("/proc/net/softnet_stat"), [])
    for column, metric in (("processed", "processed"), ("dropped", "dropped"), ("time_squeeze", "times_squeezed")):
        wanted = expected(data, rf'node_softnet_{metric}_total\{{cpu="(\d+)"\}}')
        assert {(str(row.cpu),): getattr(row, column) for row in rows} == wanted


def test_softnet_sends_zero_counters_of_no_cpu(exporter: Live) -> None:
    found = samples(softnet.collect(exporter))
    assert found["softnet.dropped", "cpu1"] == found["softnet.dropped", ""] == 41
    assert ("softnet.dropped", "cpu0") not in found
    assert found["softnet.time_squeeze", ""] == 146


def test_memory_is_what_node_exporter_expects(exporter: Live, data: Path) -> None:
    (main,) = memory.collect(exporter)
    assert main.total_kb * 1024 == expected(data, "node_memory_(MemTotal)_bytes")["MemTotal",]


def test_sysfs_tells_links_where_there_is_no_kernel_to_ask(exporter: Live) -> None:
    assert read_sysfs_link(exporter, "bonding_masters") is None
    assert [fact.ifname for fact in nic.collect(exporter) if fact.type == "bond"] == ["bond0", "dmz", "int"]
    assert all(fact.speed_mbps is None for fact in nic.collect(exporter))  # sysfs says -1
    assert queues.parse_queue_names(["rx-0", "rx-10", "rx-2", "tx-0", "x"]) == ([0, 2, 10], [0])


def test_a_tree_has_no_load(exporter: Live) -> None:
    with pytest.raises(Exception, match="psutil says nothing"):
        list(load.collect(exporter))
