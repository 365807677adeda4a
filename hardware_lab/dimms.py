"""Memory modules of a guest that count errors on demand: the EDAC core's view, through `lab_edac`."""

import shlex
from collections.abc import Sequence
from typing import Literal, NamedTuple

from hardware_lab.failure import LabError
from hardware_lab.guest import Guest

_INJECT = "/sys/kernel/debug/lab_edac/inject"
_COUNTS = """cd /sys/devices/system/edac/mc && for dimm in mc*/dimm*/; do
read -r ce < "$dimm/dimm_ce_count" && read -r ue < "$dimm/dimm_ue_count" && read -r label < "$dimm/dimm_label" &&
echo "$ce $ue $label"; done"""


class Errors(NamedTuple):
    """What a DIMM counted since its driver was loaded."""

    corrected: int
    uncorrected: int


def load(guest: Guest, *, controllers: int = 2, channels: int = 4, slots: int = 1, labels: Sequence[str] = ()) -> None:
    """Give the guest these DIMMs, each controller on the NUMA node of its number, instead of those it had.

    Labels go by controller, channel, slot; those not given are P0-DIMMA1 and so on. Raises GuestError.
    """
    if wrong := [label for label in labels if not label.isprintable() or set(label) & set(' ,"') or len(label) > 31]:
        raise LabError(f"not a label of 31 characters without space, comma and quote: {wrong[0]!r}")
    named = [f"labels={','.join(labels)}"] if labels else []
    options = shlex.join([f"controllers={controllers}", f"channels={channels}", f"slots={slots}", *named])
    guest.run(f"modprobe -r lab_edac && modprobe lab_edac {options}")


def inject(guest: Guest, label: str, kind: Literal["CE", "UE"] = "CE", count: int = 1) -> None:
    """Corrected or uncorrected errors of one DIMM, 1 to 65535; raises GuestError when no DIMM has that label."""
    guest.run(f"echo {shlex.quote(f'{kind} {label} {count}')} > {_INJECT}")


def counts(guest: Guest) -> dict[str, Errors]:
    """Errors of every DIMM, by its label; raises GuestError when there are none."""
    lines = (line.split(maxsplit=2) for line in guest.run(_COUNTS).splitlines())
    return {label: Errors(int(corrected), int(uncorrected)) for corrected, uncorrected, label in lines}
