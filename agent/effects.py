"""What changes did on this host where it was measured, and so what need not be tried again: `effects.json`."""

import contextlib
import time
from pathlib import Path

import msgspec

from agent import statefile
from machine import Machine, MachineError
from tuners.hostfacts import HostFacts
from wire.measure import Effect, Objective, Verdict
from wire.policy import Setting

FILE = "effects.json"
KEEP_S = 30 * 86400.0  # traffic changes, and so may what helps
MOST = 500

DID_NOT_HELP = (Verdict.NO_EFFECT, Verdict.WORSE)


class Known(msgspec.Struct, kw_only=True, frozen=True):
    """One measurement; of several of the same the newest counts."""

    at_ms: int
    nic: str  # key of the NIC; "" for the host or several
    effect: Effect


_KNOWN = msgspec.json.Decoder(list[Known])


class Memory:
    """The effects known in one state directory; a damaged file is as none."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._known: list[Known] = []
        with contextlib.suppress(OSError, msgspec.DecodeError):
            self._known = _KNOWN.decode(self._path.read_bytes())

    def all(self) -> list[Known]:
        """Everything known, newest last."""
        return self._known

    def keep(self, nic: str, effect: Effect) -> None:
        """Remember an effect in the place of an older one of the same; raises OSError."""
        now_ms = time.time_ns() // 1_000_000
        kept = [one for one in self._known if _name(one.effect) != _name(effect) or one.nic != nic]
        fresh = [one for one in kept if one.at_ms > now_ms - KEEP_S * 1000]
        self._known = [*fresh, Known(at_ms=now_ms, nic=nic, effect=effect)][-MOST:]
        statefile.replace(self._path, msgspec.json.encode(self._known))

    def did_not_help(self, place: str, changed: str, objective: Objective) -> Effect | None:
        """What was measured of the same at a like place, when it did not help and is not too old."""
        oldest_ms = time.time_ns() // 1_000_000 - KEEP_S * 1000
        for one in reversed(self._known):
            if _name(one.effect) == (place, changed, objective) and one.at_ms > oldest_ms:
                return one.effect if one.effect.verdict in DID_NOT_HELP else None
        return None


def _name(effect: Effect) -> tuple[str, str, Objective]:
    return effect.place, effect.changed, effect.objective


def place(machine: Machine, facts: HostFacts, nic: str) -> str:
    """Where an effect was measured: driver, kernel, NIC model and CPU, for people and to compare."""
    kernel = ""
    with contextlib.suppress(MachineError):
        kernel = machine.read("/proc/sys/kernel/osrelease").strip()
    return named(facts, nic, kernel)


def named(facts: HostFacts, nic: str, kernel: str) -> str:
    """`place` from facts alone."""
    found = facts.nics.get(nic)
    pci = facts.pci.get(found.address) if found else None
    words = [
        (found.driver or found.type) if found else "host",
        f"Linux {kernel}",
        (pci.name or f"PCI {pci.vendor_id}:{pci.device_id}") if pci else "",
        facts.cpu.model if facts.cpu else "",
    ]
    return ", ".join(filter(None, words))


def changed(settings: list[Setting]) -> str:
    """The settings that were measured together, for people and to compare: "rings rx=1024 tx=1024"."""
    parts = {
        " ".join([one.knob, *(f"{name}={_text(value)}" for name, value in sorted(one.values.items()))])
        for one in settings
    }
    return "; ".join(sorted(parts))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
