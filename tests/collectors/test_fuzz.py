"""Whatever a kernel file holds, a pure parser gives an answer or one clear error."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import (
    chips,
    cpu,
    dmi,
    hwmon,
    interrupts,
    irqnames,
    links,
    load,
    memory,
    numa,
    pci,
    processes,
    queues,
    resctrl,
    softnet,
    sysfs,
)
from collectors.irqnames import Device, map_queues
from wire.cpulist import parse_cpulist

LINES = st.text(st.sampled_from("CPU019: ,-\n\0()abfx@.eth"), max_size=200) | st.text(max_size=80)
TOLERANT: list[Callable[[str], Any]] = [
    cpu.parse_model,
    cpu.parse_isolcpus,
    dmi.parse_os_release,
    dmi.parse_arch,
    chips.parse_device,
    irqnames.parse_action,
    links.parse_flags,
    memory.parse_meminfo,
    memory.parse_chosen,
    numa.parse_node_meminfo,
    numa.parse_numastat,
    pci.parse_speed,
    pci.parse_width,
    pci.parse_hex,
    processes.parse_stat,
    processes.parse_allowed,
    resctrl.parse_schemata,
    softnet.parse_softirq_times,
    sysfs.parse_number,
    sysfs.mask_cpulist,
    sysfs.pci_addresses,
]


@given(LINES)
def test_these_parsers_take_any_text(text: str) -> None:
    for parse in TOLERANT:
        parse(text)
    numa.parse_distances(text, [0], [0, 1])
    queues.parse_queue_names(text.split("\n"))
    list(load.parse_gauges({"user": text, "idle": 1.0}, load.METRICS["cpu_times"]))


@given(LINES)
def test_a_cpu_list_in_normal_form_is_one_that_parses(text: str) -> None:
    normal = sysfs.normal_cpulist(text)
    assert sysfs.normal_cpulist(normal) == normal
    assert sorted(set(parse_cpulist(normal))) == parse_cpulist(normal)


@given(LINES | LINES.map(lambda text: f"    CPU0 CPU1\n{text}"))
def test_interrupts_parse_or_say_which_line_is_wrong(text: str) -> None:
    try:
        table = interrupts.parse_interrupts(text)
    except ValueError as error:
        assert "interrupts: line" in str(error)
        return
    assert table.cpus
    mapped = map_queues(table.vectors, Device(frozenset({"eth0"}), "0000:01:00.0"))
    assert {queue.irq for queue in mapped} <= {vector.irq for vector in table.vectors}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4096),
            st.lists(st.integers(0, 2**40), min_size=2, max_size=2),
            st.text("ab-@:.0", min_size=1),
        )
    )
)
@settings(max_examples=50)
def test_every_line_of_a_table_comes_back(rows: list[tuple[int, list[int], str]]) -> None:
    lines = [
        f"{irq:>4}: {counts[0]:>10} {counts[1]:>10}  PCI-MSI {irq * 2}-edge  {action}" for irq, counts, action in rows
    ]
    table = interrupts.parse_interrupts("\n".join(["CPU0 CPU7", *lines]))
    assert table.cpus == [0, 7]
    assert [(v.irq, v.total, v.action) for v in table.vectors] == [
        (irq, sum(counts), action) for irq, counts, action in rows
    ]


@given(LINES)
def test_softnet_parses_or_says_what_is_wrong(text: str) -> None:
    try:
        rows = softnet.parse_softnet(text, [0, 1])
    except ValueError as error:
        assert str(error)
        return
    assert all(row.processed >= 0 or "-" in text for row in rows)


@given(
    st.sampled_from(["temp1", "in0", "fan3", "power1", "curr2", "humidity1"]),
    st.dictionaries(
        st.sampled_from(["input", "average", "min", "max", "crit", "alarm", "fault", "label"]),
        LINES | st.integers().map(str),
    ),
)
def test_limits_of_a_sensor_never_contradict_each_other(channel: str, attributes: dict[str, str]) -> None:
    fact = hwmon.parse_channel(chips.Chip("d", "c"), channel, attributes)
    limits = [limit for limit in (fact.min, fact.max, fact.crit) if limit is not None]
    assert limits == sorted(limits)
    chips.parse_value(channel, attributes)
    assert not fact.alarm or limits
