"""Is this the machine it says it is? Fingerprints are compared part by part; what cannot be told is left to people.

- A serial number, UUID or permanent MAC in common and no hardware that contradicts it: the same machine; what changed
  (a NIC added, the system installed again) goes to the history.
- Something in common and something that contradicts (board swapped, every NIC swapped, a copied virtual machine): the
  same when the old one has been silent for 5 minutes, else a conflict.
- Nothing in common but the host_id (a copied disk): a conflict.
- Another host_id on the same hardware (enrolled again): a conflict while the old one was heard of in the last 24 hours,
  else a new host, with an event that names the old one.
"""

import enum
from typing import NamedTuple

from msgspec import structs

from wire.report import Fingerprint

SILENT_MS = 5 * 60_000
FORGOTTEN_MS = 24 * 3_600_000
HARDWARE = ("dmi_uuid", "product_serial", "board_serial")
PARTS = (*HARDWARE, "machine_id", "macs")
PLACEHOLDERS = (
    "to be filled",
    "default string",
    "not specified",
    "not applicable",
    "system serial",
    "base board serial",
    "serial number",
    "o.e.m.",
    "none",
    "n/a",
    "123456789",
    "0123456789",
    "03000200-0400-0500-0006-000700080009",
)


class Verdict(enum.Enum):
    """What two fingerprints say about two births."""

    SAME = "same"
    DOUBTFUL = "doubtful"
    OTHER = "other"


class Comparison(NamedTuple):
    """The verdict, and the parts that are not the same."""

    verdict: Verdict
    changed: list[str]


def told(value: str) -> str:
    """The value in lower case, "" when it is a vendor's placeholder: those identify nothing."""
    value = value.strip().lower()
    filler = len(set(value.replace("-", "").replace(":", ""))) <= 1
    if filler or any(value == word or (len(word) > 6 and word in value) for word in PLACEHOLDERS):
        return ""
    return value


def identifiers(fingerprint: Fingerprint) -> list[tuple[str, str]]:
    """What this hardware can be found by: (part, value), without placeholders."""
    found = [(part, told(getattr(fingerprint, part))) for part in HARDWARE]
    found += [("mac", told(mac)) for mac in fingerprint.macs]
    return sorted({(part, value) for part, value in found if value})


def compare(old: Fingerprint, new: Fingerprint) -> Comparison:
    """Whether both are of one machine; `changed` names the parts that differ."""
    changed = [part for part in PARTS if getattr(old, part) != getattr(new, part)]
    pairs = [(told(getattr(old, part)), told(getattr(new, part))) for part in HARDWARE]
    pairs = [(before, after) for before, after in pairs if before and after]
    agree = any(before == after for before, after in pairs)
    contradict = any(before != after for before, after in pairs)
    before, after = ({told(mac) for mac in one.macs} - {""} for one in (old, new))
    if before and after:
        agree = agree or bool(before & after)
        contradict = contradict or not before & after
    if not agree and not contradict:  # the hardware says nothing: only the installation is left
        same = not old.machine_id or not new.machine_id or old.machine_id == new.machine_id
        return Comparison(Verdict.SAME if same else Verdict.OTHER, changed)
    if not agree:
        return Comparison(Verdict.OTHER, changed)
    return Comparison(Verdict.DOUBTFUL if contradict else Verdict.SAME, changed)


def difference(old: Fingerprint, new: Fingerprint, changed: list[str]) -> str:
    """One line for people: "macs a,b -> c; board_serial X -> Y"."""
    before, after = structs.asdict(old), structs.asdict(new)
    return "; ".join(f"{part} {_show(before[part])} -> {_show(after[part])}" for part in changed)


def _show(value: str | list[str]) -> str:
    text = ",".join(value) if isinstance(value, list) else value
    return text or "(none)"
