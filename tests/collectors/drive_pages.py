"""NVMe's log pages and smartctl's JSON, made of the values in them."""

import json
import struct
from typing import Any


def page(**values: int) -> bytes:
    """A health log; what is not named is 0 but for the spare."""
    log = bytearray(512)
    log[3], log[4] = values.pop("spare", 100), values.pop("threshold", 10)
    log[0], log[5] = values.pop("warning", 0), values.pop("used", 0)
    log[1:3] = values.pop("kelvin", 313).to_bytes(2, "little")
    struct.pack_into("<II", log, 192, values.pop("warning_minutes", 0), values.pop("critical_minutes", 0))
    struct.pack_into("<8H", log, 200, *(values.pop(f"sensor{at}", 0) for at in range(1, 9)))
    struct.pack_into("<4I", log, 216, 0, 0, values.pop("light_s", 0), values.pop("heavy_s", 0))
    names = ("units_read", "units_written", "reads", "writes", "busy", "cycles", "hours", "unsafe", "media", "errors")
    for at, name in enumerate(names):
        log[32 + 16 * at : 48 + 16 * at] = values.pop(name, 0).to_bytes(16, "little")
    assert not values
    return bytes(log)


def identity(serial: str = "S4EVNF0M123456", *, oacs: int = 0) -> bytes:
    told = bytearray(4096)
    told[4:24] = serial.encode().ljust(20)
    told[24:64] = b"SAMSUNG MZQLB1T9HAJR-00007".ljust(40)
    told[64:72] = b"EDA5502Q"
    told[256:258] = oacs.to_bytes(2, "little")
    told[262] = 63
    struct.pack_into("<2H", told, 266, 343, 353)
    return bytes(told)


def error(count: int, status: int, lba: int = 0, namespace: int = 1) -> bytes:
    return struct.pack("<QHHHHQI", count, 1, 2, status, 0, lba, namespace).ljust(64, b"\0")


def ata(*rows: dict[str, Any], **more: Any) -> str:
    said = {"json_format_version": [1, 0], "device": {"name": "/dev/sda"}, "smart_status": {"passed": True}}
    return json.dumps({**said, "ata_smart_attributes": {"table": list(rows)}, **more})


def row(number: int, name: str, raw: int, text: str = "", value: int = 100) -> dict[str, Any]:
    return {"id": number, "name": name, "value": value, "raw": {"value": raw, "string": text or str(raw)}}
