import pytest
from msgspec.structs import replace

from hwdb.identity import Verdict, compare, identifiers, told
from wire.report import Fingerprint

BOX = Fingerprint(
    dmi_uuid="4c4c4544-0035-5a10-8054-b4c04f4a3332",
    product_serial="7Z5TJ32",
    board_serial="CN7220069H00EK",
    machine_id="1b2c3d",
    macs=["b0:26:28:00:00:01", "b0:26:28:00:00:02"],
)
OTHER = Fingerprint(
    dmi_uuid="4c4c4544-0051-4d10-8046-c2c04f503332",
    product_serial="2QMFP32",
    board_serial="CN7220069H00EX",
    machine_id="1b2c3d",
    macs=["b0:26:28:00:00:11", "b0:26:28:00:00:12"],
)
BARE = Fingerprint(machine_id="1b2c3d")


@pytest.mark.parametrize(
    ("new", "verdict", "changed"),
    [
        (BOX, Verdict.SAME, []),
        (replace(BOX, machine_id="reinstalled"), Verdict.SAME, ["machine_id"]),
        (replace(BOX, macs=[*BOX.macs, "aa:aa:aa:aa:aa:ab"]), Verdict.SAME, ["macs"]),
        (replace(BOX, macs=BOX.macs[:1]), Verdict.SAME, ["macs"]),
        (replace(BOX, macs=[]), Verdict.SAME, ["macs"]),
        (replace(BOX, macs=["aa:aa:aa:aa:aa:ab"]), Verdict.DOUBTFUL, ["macs"]),
        (replace(BOX, board_serial="SWAPPED"), Verdict.DOUBTFUL, ["board_serial"]),
        (replace(OTHER, macs=BOX.macs), Verdict.DOUBTFUL, ["dmi_uuid", "product_serial", "board_serial"]),
        (OTHER, Verdict.OTHER, ["dmi_uuid", "product_serial", "board_serial", "macs"]),
        (BARE, Verdict.SAME, ["dmi_uuid", "product_serial", "board_serial", "macs"]),
    ],
)
def test_a_machine_against_itself_later(new: Fingerprint, verdict: Verdict, changed: list[str]) -> None:
    assert compare(BOX, new) == (verdict, changed)
    assert compare(new, BOX) == (verdict, changed)


def test_without_hardware_ids_the_installation_decides() -> None:
    assert compare(BARE, BARE).verdict is Verdict.SAME
    assert compare(BARE, Fingerprint(machine_id="other")).verdict is Verdict.OTHER
    assert compare(Fingerprint(), Fingerprint()).verdict is Verdict.SAME


@pytest.mark.parametrize(
    "filler",
    [
        "",
        "To Be Filled By O.E.M.",
        "Default string",
        "System Serial Number",
        "Not Specified",
        "None",
        "0",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
        "00:00:00:00:00:00",
        "0123456789",
    ],
)
def test_placeholders_identify_nothing(filler: str) -> None:
    assert told(filler) == ""
    one, other = (replace(box, product_serial=filler) for box in (BOX, OTHER))
    assert compare(one, other).verdict is Verdict.OTHER
    assert "product_serial" not in dict(identifiers(one))


def test_case_and_space_do_not_matter() -> None:
    assert compare(BOX, replace(BOX, dmi_uuid=f" {BOX.dmi_uuid.upper()} ")).verdict is Verdict.SAME
