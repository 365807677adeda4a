"""A host's parts in a few words: every kind is told, and nothing that a machine says reaches the terminal raw."""

import io
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from hwdb import ends, parts, screen
from tuners.hostfacts import HostFacts
from wire import facts as kinds
from wire.codec import decode
from wire.facts import FACT, Fact
from wire.facts.optics import Optics

GOLDEN = Path(__file__).parents[1] / "collectors" / "golden"
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def recorded(capture: str) -> list[Fact]:
    """All facts of a captured machine."""
    found = [json.loads(path.read_text())["facts"] for path in sorted((GOLDEN / capture).glob("*.json"))]
    return [decode(FACT, json.dumps(fact).encode()) for facts in found for fact in facts]


def drawn(facts: Iterable[Fact], values: parts.Values, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(screen.screen(HostFacts(facts), values, [], width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_a_label_stands_once_and_parts_that_are_not_there_have_no_line() -> None:
    assert parts.lines(HostFacts([]), {}) == []
    disks = [kinds.Disk(key=name, name=name, model=model) for name, model in (("sda", "A"), ("sdb", "B"), ("sdc", "A"))]
    assert parts.lines(HostFacts(disks), {}) == [("drives", "2 x A · sda, sdc"), ("", "1 x B · sdb")]


def test_modules_are_grouped_and_their_errors_named() -> None:
    full = {"populated": True, "size_mib": 65536, "type": "DDR5", "configured_mts": 4800, "vendor": "V", "part": "P"}
    slots = [kinds.Dimm(key=f"A{at}", locator=f"A{at}", **full) for at in (1, 2)]  # type: ignore[arg-type]
    ((label, text),) = parts.lines(HostFacts([*slots, kinds.Dimm(key="A3")]), {("edac.corrected_errors", "A2"): 7.0})
    assert (label, text) == ("modules", "2 of 3 slots · 2 x 64 GiB DDR5-4800 V P · A2: 7 corrected errors")


def test_drives_have_their_verdict_and_why() -> None:
    disk = kinds.Disk(
        key="w", name="nvme0n1", model="M", size_bytes=3_840_000_000_000, transport="nvme", firmware="1.0"
    )
    ill = kinds.DriveHealth(key="s", name="nvme0", verdict="failing", reason="spare below its threshold")
    ((_, text),) = parts.lines(HostFacts([disk, ill]), {})
    assert text == "1 x M 3.84 TB nvme · nvme0n1 · firmware 1.0 · 1 failing · nvme0: spare below its threshold"


def test_a_rack_device_shows_what_it_has() -> None:
    outlets = [kinds.Outlet(key=f"outlet:{at}", state="on" if at < 8 else "off") for at in range(1, 9)]
    device = kinds.Device(category="pdu", vendor="APC", model="AP7921B", serial="5A1")
    text = drawn(
        [device, *outlets, kinds.Probe(key="probe:1", name="rear")], {("snmp.temperature_celsius", "probe:1"): 24.5}
    )
    assert "pdu APC AP7921B · serial 5A1" in text
    assert "7 on, 1 off" not in text
    assert "1 off, 7 on" in text
    assert "rear 24.5 °C" in text
    assert "network" not in text


def test_power_has_its_unit() -> None:
    meter = kinds.PowerMeter(key="m", chip="power_meter", channel="power1")
    assert parts.lines(HostFacts([meter]), {("power.watts", "m"): 312.0}) == [("power", "power_meter 312 W")]


def test_a_cable_shows_its_module_its_light_and_its_far_end() -> None:
    nic = kinds.Nic(key="aa", ifname="eth0", ifindex=2)
    module = Optics(key="aa", ifname="eth0", form="QSFP28", media=["100GBASE-LR4"], vendor="V", part="P", serial="S")
    far = kinds.Lldp(key="aa", system_name="leaf1", port_id="Eth1/7")
    light = {("optics.rx_power_dbm", "aa/1"): -2.04, ("optics.rx_power_dbm", "aa/2"): -3.0}
    ((*cells,),) = ends.rows(HostFacts([nic, module, far]), light)
    assert [cell.plain for cell in cells] == [
        "eth0",
        "QSFP28 100GBASE-LR4",
        "V P",
        "S",
        "",
        "-2.0 -3.0",
        "",
        "leaf1 Eth1/7",
    ]
    many = {("optics.tx_power_dbm", f"aa/{lane}"): -2.0 - lane / 10 for lane in range(1, 9)}
    assert ends.rows(HostFacts([nic, module]), many)[0][4].plain == "-2.8 to -2.1 x8"
    assert ends.rows(HostFacts([nic, module]), dict.fromkeys(many, -2.0))[0][4].plain == "-2.0 x8"
    blocked = kinds.Lldp(key="aa", state="blocked", reason="the firmware's agent keeps them")
    assert ends.rows(HostFacts([nic, blocked]), {})[0][-1].plain == "blocked: the firmware's agent keeps them"


@pytest.mark.parametrize("capture", sorted(path.name for path in GOLDEN.iterdir()))
@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_captured_machine_fits_the_screen(capture: str, width: int) -> None:
    text = drawn(recorded(capture), {}, width)
    assert max(map(len, text.splitlines())) <= width
    assert "findings" in text


def test_what_a_device_calls_itself_cannot_move_the_cursor() -> None:
    hostile: list[Fact] = [
        kinds.Device(vendor=ESCAPE, model=ESCAPE),
        kinds.Disk(key="x", name=ESCAPE, model=ESCAPE),
        kinds.Nic(key="aa", ifname="eth0", ifindex=2),
        kinds.Lldp(key="aa", system_name=ESCAPE, port_id=ESCAPE),
        Optics(key="aa", ifname="eth0", vendor=ESCAPE, part=ESCAPE),
        kinds.Bmc(address=ESCAPE),
        kinds.Outlet(key="outlet:1", state=ESCAPE),
    ]
    assert not {char for char in drawn(hostile, {}) if ord(char) < 32 and char != "\n"}
