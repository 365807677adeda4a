"""EDAC's counts by slot: controllers, modules and ranks, and labels as drivers and label tables spell them."""

import re
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from collectors import edac
from collectors.dimm import parse_dimms, unique_keys
from collectors.edac import Place, join_labels
from collectors.run import run
from machine import smbios
from machine.live import Live
from tests.collectors.conftest import extract, write
from wire.facts import Dimm, Edac, EdacModule
from wire.report import Sample, Severity

EDAC = "sys/devices/system/edac/mc"
X9DBL = "u-root-smbios/SuperMicro-X9DBL.bin"  # P1-DIMM1A, P1-DIMM1B, ... P2-DIMM1F
R630 = "go-smbios/Dell-PowerEdge-R630-Dual-Xeon.dmi"  # A1 ... A12, B1 ... B12


def dump(data: Path, name: str) -> bytes:
    """A real table; one of `dmidecode --dump-bin` begins with 32 bytes of entry point."""
    return (data / "dmi-lshw-lspci" / name).read_bytes()[32 if name.endswith(".bin") else 0 :]


@pytest.fixture
def server(data: Path, tmp_path: Path) -> Path:
    """A root with a real board's table and nothing of EDAC."""
    write(tmp_path, {smbios.TABLE: dump(data, X9DBL)})
    return tmp_path


def count(root: Path, modules: Iterable[tuple[str, str, int, int]]) -> None:
    """EDAC's files: place, label, corrected, uncorrected."""
    for place, label, corrected, uncorrected in modules:
        files = {"dimm_label": label, "dimm_ce_count": f"{corrected}", "dimm_ue_count": f"{uncorrected}"}
        write(root, {f"{EDAC}/{place}/{name}": f"{text}\n" for name, text in files.items()})


def counted(root: Path) -> dict[tuple[str, str], float]:
    samples = [item for item in edac.collect(Live(str(root))) if isinstance(item, Sample)]
    found = {(item.metric.removeprefix("edac."), item.key): item.value for item in samples}
    assert len(found) == len(samples)
    return found


def test_errors_are_counted_for_the_slot_whose_label_edac_has(server: Path) -> None:
    count(
        server,
        [
            ("mc0/dimm0", "P1-DIMM1A", 3, 0),
            ("mc1/dimm0", "P0_Node0_Channel1_Dimm0 P1-DIMM1B", 0, 1),
            ("mc1/dimm7", "P9", 2, 0),
        ],
    )
    assert counted(server) == {
        ("corrected_errors", "P1-DIMM1A"): 3,
        ("uncorrected_errors", "P1-DIMM1A"): 0,
        ("corrected_errors", "P1-DIMM1B"): 0,
        ("uncorrected_errors", "P1-DIMM1B"): 1,
        ("corrected_errors", "P9"): 2,
        ("uncorrected_errors", "P9"): 0,
    }


def test_ranks_of_one_module_are_added_up_and_what_no_module_had_is_the_controllers(server: Path) -> None:
    count(server, [("mc0/rank0", "P1-DIMM1A", 3, 1), ("mc0/rank1", "P1-DIMM1A", 4, 0)])
    write(server, {f"{EDAC}/mc0/ce_noinfo_count": "5\n", f"{EDAC}/mc0/ue_noinfo_count": "6\n"})
    assert counted(server) == {
        ("corrected_errors", "mc0"): 5,
        ("uncorrected_errors", "mc0"): 6,
        ("corrected_errors", "P1-DIMM1A"): 7,
        ("uncorrected_errors", "P1-DIMM1A"): 1,
    }


def test_only_controllers_and_modules_count_and_nonsense_costs_its_own_field(server: Path) -> None:
    count(server, [("mc0/dimm0", "P1-DIMM1A", 3, 1), ("mc0/dimm_is_fake", "X", 9, 9), ("mc_fake/dimm0", "Y", 9, 9)])
    write(server, {f"{EDAC}/mc0/dimm0/dimm_ue_count": "(null)\n", f"{EDAC}/mc0/csrow0/ce_count": "9\n"})
    assert counted(server) == {("corrected_errors", "P1-DIMM1A"): 3}


def test_errors_are_counted_without_a_table_too(tmp_path: Path) -> None:
    count(tmp_path, [("mc0/dimm0", "", 1, 0)])
    assert counted(tmp_path) == {("corrected_errors", "mc0/dimm0"): 1, ("uncorrected_errors", "mc0/dimm0"): 0}


def slots(*places: str) -> list[Dimm]:
    split = [place.rpartition("|") for place in places]
    pairs = [(bank, locator) for bank, _, locator in split]
    return [
        Dimm(key=key, locator=place[1], bank=place[0]) for key, place in zip(unique_keys(pairs), pairs, strict=True)
    ]


@pytest.mark.parametrize(
    ("label", "key"),
    [
        *[("DIMM_A1", "A1"), ("A1", "A1"), ("dimm-a1", "A1"), ("DIMM A11", "A11"), ("A12", "A12")],
        *[("CPU 1 DIMM 1", "CPU 1 DIMM 1"), ("CPU 2 DIMM 1", "CPU 2 DIMM 1"), ("DIMM 1", "DIMM 1")],
        *[("CPU_SrcID#0_MC#0_Chan#1_DIMM#0", "CPU_SrcID#0_MC#0_Chan#1_DIMM#0"), ("", "mc0/dimm3")],
    ],
)
def test_a_label_is_joined_to_the_slot_that_alone_bears_it(label: str, key: str) -> None:
    place = Place("mc0", "dimm3", label)
    assert join_labels([place], slots("A1", "A11", "CPU 1|DIMM 1", "CPU 2|DIMM 1")) == {place: key}


def test_a_label_of_two_controllers_is_joined_to_no_slot() -> None:
    places = [Place("mc0", "dimm0", "A1"), Place("mc1", "dimm0", "A1"), Place("mc1", "dimm1", "A2")]
    assert list(join_labels(places, slots("A1", "A2")).values()) == ["mc0/A1", "mc1/A1", "A2"]


def test_the_labels_that_rasdaemon_knows_of_a_real_machine_are_joined_to_its_slots(data: Path) -> None:
    known = (data / "ras/rasdaemon/dell").read_text()
    (section,) = [part for part in re.split(r"\n\s*Product: ", known) if "PowerEdge R630" in part.split("\n")[0]]
    labels = re.findall(r"(\w+):\s*\d\.\d\.\d;", section)
    assert len(labels) >= 12
    dimms = parse_dimms(dump(data, R630))
    places = [Place("mc0", f"dimm{at}", label) for at, label in enumerate(labels)]
    joined = join_labels(places, dimms)
    assert {joined[place] for place in places} <= {one.key for one in dimms}
    assert all(place.label.removeprefix("DIMM_") == joined[place] for place in places)


def test_the_labels_that_the_firmwares_own_driver_makes_are_joined(data: Path) -> None:
    dimms = parse_dimms(dump(data, X9DBL))
    places = [Place("mc0", f"dimm{at}", f"{one.bank} {one.locator}") for at, one in enumerate(dimms)]
    assert list(join_labels(places, dimms).values()) == [one.key for one in dimms]


def test_rows_of_chip_selects_are_what_an_old_kernel_counts_and_totals_are_nobodys_sum(exporter: Live) -> None:
    result = run(edac, exporter, 0)
    (fact,) = result.facts
    assert isinstance(fact, Edac)
    labels = [f"mc0csrow{row}channel{channel}" for row in range(3) for channel in range(2)]
    assert [(module.name, module.dimm) for module in fact.modules] == [
        (f"csrow{row}/ch{channel}", f"mc0csrow{row}channel{channel}") for row in range(3) for channel in range(2)
    ]
    assert {(item.metric.removeprefix("edac."), item.key): item.value for item in result.samples} == {
        **{("corrected_errors", label): 0 for label in labels},
        **{("uncorrected_errors", f"mc0/csrow{row}"): count for row, count in enumerate((4, 4, 5))},
        ("corrected_errors", "mc0"): 2,
        ("uncorrected_errors", "mc0"): 6,
    }


def test_a_controller_its_modules_and_nothing_that_only_looks_like_one(data: Path, tmp_path: Path) -> None:
    with tarfile.open(data / "ras/cadvisor-edac/edac.tar.gz") as archive:
        for member in archive:
            extract(archive, member, tmp_path / "sys/devices/system" / member.name)
    facts = {fact.key: fact for fact in run(edac, Live(str(tmp_path)), 0).facts if isinstance(fact, Edac)}
    assert {key: [module.name for module in fact.modules] for key, fact in facts.items()} == {
        "mc0": ["dimm0", "dimm1"],
        "mc1": ["dimm0"],
    }
    assert all(module.memory and module.size_mib for fact in facts.values() for module in fact.modules)


def test_a_controller_says_who_it_is_and_minus_one_is_no_scrub_rate(server: Path) -> None:
    count(server, [("mc0/dimm0", "P1-DIMM1A", 0, 0), ("mc1/dimm0", "P1-DIMM1B", 0, 0)])
    said = {"mc_name": "Skylake Socket#0 IMC#0\n", "size_mb": "65536\n", "sdram_scrub_rate": "-1\n"}
    write(server, {f"{EDAC}/mc0/{name}": text for name, text in said.items()})
    module = {"size": "32768", "dimm_mem_type": "Registered-DDR4", "dimm_edac_mode": "S4ECD4ED"}
    write(server, {f"{EDAC}/mc0/dimm0/{name}": f"{text}\n" for name, text in module.items()})
    write(server, {f"{EDAC}/mc0/dimm0/dimm_location": "channel 0 slot 1 \n", f"{EDAC}/mc1/sdram_scrub_rate": "97650\n"})
    first, second = (fact for fact in run(edac, Live(str(server)), 0).facts if isinstance(fact, Edac))
    assert (first.name, first.size_mib, first.scrub_bytes_per_s) == ("Skylake Socket#0 IMC#0", 65536, None)
    assert (second.name, second.size_mib, second.scrub_bytes_per_s) == ("", None, 97650)
    assert first.modules == [
        EdacModule(
            name="dimm0",
            dimm="P1-DIMM1A",
            label="P1-DIMM1A",
            location="channel 0 slot 1",
            size_mib=32768,
            memory="Registered-DDR4",
            edac="S4ECD4ED",
        )
    ]


def test_an_error_is_an_event_when_it_comes_and_after_the_counts_were_cleared(server: Path) -> None:
    machine = Live(str(server))

    def events(corrected: int, uncorrected: int) -> list[tuple[str, str, Severity, int]]:
        count(server, [("mc0/dimm0", "P1-DIMM1A", corrected, uncorrected)])
        found = run(edac, machine, 0).events
        return [(event.kind, event.key, event.severity, int(event.data["errors"] or 0)) for event in found]

    warning = ("memory.error", "P1-DIMM1A", Severity.WARNING)
    assert events(5, 0) == events(5, 0) == []
    assert events(8, 0) == [(*warning, 3)]
    assert events(8, 1) == [("memory.error", "P1-DIMM1A", Severity.CRITICAL, 1)]
    assert events(2, 0) == [(*warning, 2)]
    assert events(0, 0) == []


def test_a_slot_table_that_is_damaged_costs_the_slots_names_alone(server: Path) -> None:
    write(server, {smbios.TABLE: b"\1\2\3"})
    count(server, [("mc0/dimm0", "DIMM_A1", 3, 0)])
    assert counted(server) == {("corrected_errors", "DIMM_A1"): 3, ("uncorrected_errors", "DIMM_A1"): 0}


def test_a_hostile_label_is_one_short_line(tmp_path: Path) -> None:
    count(tmp_path, [("mc0/dimm0", "A1\x1b[2J\n" + "x" * 500, 1, 0)])
    (key,) = {key for _, key in counted(tmp_path)}
    assert key.isprintable()
    assert len(key) <= edac.LABEL_MOST
