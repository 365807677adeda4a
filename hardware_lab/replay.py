"""Many hosts from one capture: real collectors read it once, every host gets the facts with names of its own.

What names a machine (host name, serial numbers, UUID, MACs) is cut out of the facts' JSON once per capture and replaced
by what the host's number makes of it, so a fleet shares its captures and a host costs only its own names.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid5

import msgspec
from msgspec import structs

from collectors.registry import ALL
from collectors.run import Result, run
from hardware_lab.failure import LabError
from machine import MachineError
from machine.capture import Captured
from wire.codec import encode
from wire.facts import Dmi, Fact, Nic
from wire.report import Fingerprint, Run, Sample, Status

MAX_NUMBER = 0xFFFFFF
MAX_MACS = 0xFFFF
HOSTNAME, SERIAL, UUID_, BOARD = range(4)  # places in `Person.words`; MACs follow

_NAMESPACE = UUID("3f0a2e61-8f57-5e0b-9a34-6c6162666c74")  # any fixed one: the same number is the same host for ever
_MARKS = ("@hostname@", "@serial@", "@uuid@", "@board@")
_NO_MAC = ("", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")
_GAUGE = re.compile(
    r"free|used|available|cached|average|^hwmon\.|^fans\.|^psu\.|^power\.watts|^thermal\.|^optics\.|^smart\.(temperature|percentage|spare)"
)


class Piece(NamedTuple):
    """Some JSON, and whose word follows it (-1: nobody's)."""

    json: bytes
    word: int


class Number(NamedTuple):
    """A sample of the capture; `word` is the place of its key in `Person.words`, or -1."""

    metric: str
    key: str
    value: float
    word: int
    gauge: bool


class Subject(NamedTuple):
    """One collector's run over the capture."""

    collector: str
    every_s: float
    status: Status
    reason: str
    duration_ms: float
    digest: str  # of the capture's facts; with a host's number that of its own
    facts: list[list[Piece]]
    numbers: list[Number]


class Portrait(NamedTuple):
    """A capture, read; `macs` are the capture's own, `permanent` the places of the physical NICs' among the words."""

    name: str
    subjects: list[Subject]
    macs: list[str]
    permanent: list[int]
    nics: list[str]  # keys of NICs that have hardware, else of all but loopback; those that are MACs stand in `macs`

    @property
    def intervals(self) -> list[float]:
        """The different intervals of its collectors, seconds, shortest first."""
        return sorted({subject.every_s for subject in self.subjects})


class Person(NamedTuple):
    """One simulated host: all that is its own."""

    number: int
    host_id: str
    words: tuple[str, ...]

    @property
    def hostname(self) -> str:
        """`sim-00042`."""
        return self.words[HOSTNAME]


def read_portrait(path: Path) -> Portrait:
    """Run every collector over a capture; raises LabError when it is none or no collector finds anything in it."""
    try:
        machine = Captured(path)
    except MachineError as error:
        raise LabError(str(error)) from None
    results = [(collector, run(collector, machine, 0)) for collector in ALL]
    facts = [fact for _, result in results for fact in result.facts]
    if not facts:
        raise LabError(f"{path}: no collector finds anything in this capture")
    nics = [fact for fact in facts if isinstance(fact, Nic)]
    macs = sorted({mac for nic in nics for mac in (nic.mac, nic.perm_mac, nic.key) if _is_mac(mac)})
    if len(macs) > MAX_MACS:
        raise LabError(f"{path}: {len(macs)} MACs are more than {MAX_MACS}")
    physical = [nic for nic in nics if nic.type == "physical"]
    shown = physical or [nic for nic in nics if nic.type != "loopback"]
    return Portrait(
        name=path.stem,
        subjects=[_subject(collector.NAME, collector.EVERY_S, result, macs) for collector, result in results],
        macs=macs,
        permanent=sorted({len(_MARKS) + macs.index(nic.perm_mac) for nic in physical if _is_mac(nic.perm_mac)}),
        nics=[nic.key for nic in shown],
    )


def person(portrait: Portrait, number: int) -> Person:
    """The host of this number (1 to 16,777,215): the same names whenever it is made, from whatever capture."""
    names = (f"sim-{number:05d}", f"SIM{number:07d}", str(uuid5(_NAMESPACE, f"uuid/{number}")), f"SIMB{number:07d}")
    macs = (_mac(number, place) for place in range(len(portrait.macs)))
    return Person(number, str(uuid5(_NAMESPACE, f"host/{number}")), (*names, *macs))


def fingerprint(portrait: Portrait, who: Person) -> Fingerprint:
    """What tells this host from every other."""
    return Fingerprint(
        dmi_uuid=who.words[UUID_],
        product_serial=who.words[SERIAL],
        board_serial=who.words[BOARD],
        machine_id=uuid5(_NAMESPACE, f"machine-id/{who.number}").hex,
        macs=sorted(who.words[place] for place in portrait.permanent),
    )


def own_key(portrait: Portrait, who: Person, key: str) -> str:
    """The key of a component of the capture, as it is on this host."""
    return who.words[len(_MARKS) + portrait.macs.index(key)] if key in portrait.macs else key


def make_run(subject: Subject, who: Person, at_ms: int, elapsed_s: float, *, whole: bool) -> Run:
    """One run of a collector on this host, `elapsed_s` after the capture; with its facts when `whole`."""
    made = Run(
        collector=subject.collector,
        status=subject.status,
        at_ms=at_ms,
        duration_ms=subject.duration_ms,
        reason=subject.reason,
        digest=f"{subject.digest}{who.number:06x}",
        samples=[msgspec.Raw(encode(sample)) for sample in samples(subject, who, elapsed_s)],
    )
    if whole:
        made.facts = [msgspec.Raw(fact) for fact in own_facts(subject, who)]
    return made


def own_facts(subject: Subject, who: Person) -> list[bytes]:
    """The JSON of every fact, with this host's names."""
    words = [word.encode() for word in who.words]
    return [
        b"".join(part for piece in fact for part in (piece.json, words[piece.word] if piece.word >= 0 else b""))
        for fact in subject.facts
    ]


def samples(subject: Subject, who: Person, elapsed_s: float) -> list[Sample]:
    """Counters go on from the capture's as if those had grown for an hour, gauges swing by 5 %; hosts differ."""
    share = 0.5 + (who.number * 0.6180339887) % 1.0
    grown = share * (1.0 + elapsed_s / 3600.0)
    swung = 1.0 + 0.05 * math.sin(elapsed_s / 60.0 + who.number)
    return [
        Sample(
            number.metric,
            who.words[number.word] if number.word >= 0 else number.key,
            _moved(number.value, swung if number.gauge else grown),
        )
        for number in subject.numbers
    ]


def _moved(value: float, by: float) -> float:
    return round(value * by) if float(value).is_integer() else round(value * by, 3)


def _subject(name: str, every_s: float, result: Result, macs: list[str]) -> Subject:
    ordered = sorted(result.facts, key=lambda fact: fact.key)
    facts = [encode(_unnamed(fact)) for fact in ordered]
    return Subject(
        collector=name,
        every_s=every_s,
        status=result.status,
        reason=result.reason,
        duration_ms=result.duration_ms,
        digest=hashlib.blake2b(b",".join(facts), digest_size=5).hexdigest(),
        facts=[_cut(fact, macs) for fact in facts],
        numbers=[_number(sample, macs) for sample in result.samples],
    )


def _unnamed(fact: Fact) -> Fact:
    if not isinstance(fact, Dmi):
        return fact
    hostname, serial, uuid, board = _MARKS
    return structs.replace(fact, hostname=hostname, serial=serial, uuid=uuid, board_serial=board)


def _cut(json: bytes, macs: Sequence[str]) -> list[Piece]:
    """The JSON up to each word that is the host's own."""
    places = {word.encode(): place for place, word in enumerate((*_MARKS, *macs))}
    parts = re.split(b"(" + b"|".join(re.escape(word) for word in places) + b")", json)
    pieces = [Piece(text, places[word]) for text, word in zip(parts[0::2], parts[1::2], strict=False)]
    return [*pieces, Piece(parts[-1], -1)]


def _number(sample: Sample, macs: Sequence[str]) -> Number:
    word = len(_MARKS) + macs.index(sample.key) if sample.key in macs else -1
    return Number(sample.metric, sample.key, sample.value, word, bool(_GAUGE.search(sample.metric)))


def _mac(number: int, place: int) -> str:
    """Locally administered: 02, three bytes of the host's number, two of the NIC's place."""
    return ":".join(f"{byte:02x}" for byte in bytes([2, *number.to_bytes(3, "big"), *place.to_bytes(2, "big")]))


def _is_mac(text: str) -> bool:
    return text not in _NO_MAC and re.fullmatch(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", text) is not None


def read_portraits(paths: Iterable[Path]) -> list[Portrait]:
    """All captures, in order; raises LabError with the first that is none."""
    return [read_portrait(path) for path in paths]
