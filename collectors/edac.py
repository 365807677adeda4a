"""Memory errors: what EDAC counts for every controller and module, under the key of the slot that the label names."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from collectors import edges, sysfs
from collectors.about import About
from collectors.dimm import read_dimms
from machine import Machine, MachineError, NotPresentError
from wire.facts import Dimm, Edac, EdacModule
from wire.report import Event, Sample, Severity
from wire.text import clean

NAME = "edac"
EVERY_S = 30.0
DEADLINE_S = 10.0

_MC = "/sys/devices/system/edac/mc"
_CONTROLLER = re.compile(r"mc\d+")
_MODULE = re.compile(r"(?:dimm|rank)\d+")  # ranks with drivers that count by chip select, amd64_edac among them
_ROW = re.compile(r"csrow\d+")
_CHANNEL = re.compile(r"(ch\d+)_ce_count")
COUNTERS = {"ce": "edac.corrected_errors", "ue": "edac.uncorrected_errors"}
_WORDS = {"edac.corrected_errors": "corrected", "edac.uncorrected_errors": "uncorrected"}
LABEL_MOST = 96


class Place(NamedTuple):
    """What EDAC counts errors for: its controller, its folder there, and the label of the slot, if it has one."""

    controller: str
    folder: str
    label: str


ABOUT = About(
    what="memory controllers: scrub rate, modules with their labels; corrected and uncorrected errors per slot",
    source="EDAC in `/sys/devices/system/edac/mc`, SMBIOS for the slots",
    privileges="root for the slots' keys",
    needs=("/sys/firmware/dmi/tables/DMI",),
    metrics=dict.fromkeys(COUNTERS.values(), 0),
)


def collect(machine: Machine) -> Iterator[Edac | Sample | Event]:
    """One `Edac` per controller, counts per slot and an event when one rises; raises NotPresentError without EDAC."""
    controllers = [name for name in sysfs.names(machine, _MC) if _CONTROLLER.fullmatch(name)]
    if not controllers:
        raise NotPresentError(f"no memory controller in {_MC}")
    places = {name: read_places(machine, name) for name in controllers}
    keys = join_labels([place for found in places.values() for place in found], _dimms(machine))
    counts: dict[str, Counter[str]] = {}
    for name in controllers:
        yield read_controller(machine, name, {place: keys[place] for place in places[name]})
        counts.setdefault(name, Counter()).update(_counts(machine, f"{_MC}/{name}", "{}_noinfo_count"))
        for key, found in read_counts(machine, name, {place: keys[place] for place in places[name]}):
            counts.setdefault(key, Counter()).update(found)
    for key, found in counts.items():
        yield from (Sample(metric, key, count) for metric, count in found.items())
    yield from error_events(machine, counts)


def read_controller(machine: Machine, name: str, keys: Mapping[Place, str]) -> Edac:
    """What the controller says of itself and of its modules."""
    folder = f"{_MC}/{name}"
    scrub = sysfs.number(machine, f"{folder}/sdram_scrub_rate")
    return Edac(
        key=name,
        name=clean(sysfs.text(machine, f"{folder}/mc_name"), LABEL_MOST),
        size_mib=sysfs.number(machine, f"{folder}/size_mb"),
        scrub_bytes_per_s=scrub if scrub is not None and scrub >= 0 else None,
        modules=[read_module(machine, place, key) for place, key in keys.items()],
    )


def read_module(machine: Machine, place: Place, key: str) -> EdacModule:
    """One module; of a channel in a row of chip selects only its label is known."""
    folder = f"{_MC}/{place.controller}/{place.folder}"
    return EdacModule(
        name=place.folder,
        dimm=key,
        label=place.label,
        location=clean(sysfs.text(machine, f"{folder}/dimm_location"), LABEL_MOST),
        size_mib=sysfs.number(machine, f"{folder}/size"),
        memory=clean(sysfs.text(machine, f"{folder}/dimm_mem_type"), LABEL_MOST),
        edac=clean(sysfs.text(machine, f"{folder}/dimm_edac_mode"), LABEL_MOST),
    )


def read_places(machine: Machine, controller: str) -> list[Place]:
    """Modules or ranks; from kernels that have neither the channels of chip select rows."""
    folder = f"{_MC}/{controller}"
    names = sysfs.names(machine, folder)
    modules = [name for name in names if _MODULE.fullmatch(name)]
    if modules:
        files = {name: f"{name}/dimm_label" for name in modules}
    else:
        files = {
            f"{row}/{match[1]}": f"{row}/{match[1]}_dimm_label"
            for row in names
            if _ROW.fullmatch(row)
            for name in sysfs.names(machine, f"{folder}/{row}")
            if (match := _CHANNEL.fullmatch(name))
        }
    return [
        Place(controller, name, clean(sysfs.text(machine, f"{folder}/{file}"), LABEL_MOST))
        for name, file in files.items()
    ]


def read_counts(machine: Machine, controller: str, keys: Mapping[Place, str]) -> Iterator[tuple[str, dict[str, int]]]:
    """The key of a slot with its errors since the driver was loaded.

    Rows of chip selects count corrected errors by channel, and uncorrected ones as a whole (key `mc0/csrow0`).
    """
    folder = f"{_MC}/{controller}"
    rows: dict[str, None] = {}
    for place, key in keys.items():
        row, _, channel = place.folder.partition("/")
        if not channel:
            yield key, _counts(machine, f"{folder}/{place.folder}", "dimm_{}_count")
            continue
        rows[row] = None
        corrected = sysfs.number(machine, f"{folder}/{place.folder}_ce_count")
        yield key, {} if corrected is None else {COUNTERS["ce"]: corrected}
    for row in rows:
        uncorrected = sysfs.number(machine, f"{folder}/{row}/ue_count")
        yield f"{controller}/{row}", {} if uncorrected is None else {COUNTERS["ue"]: uncorrected}


def join_labels(places: list[Place], dimms: list[Dimm]) -> dict[Place, str]:
    """The key of the slot that alone bears the label; else the label, within its controller if it is not alone."""
    owners: dict[str, set[str]] = {}
    for dimm in dimms:
        for name in (dimm.key, dimm.locator, f"{dimm.bank} {dimm.locator}"):
            owners.setdefault(_bare(name), set()).add(dimm.key)
    controllers: dict[str, set[str]] = {}
    for place in places:
        controllers.setdefault(place.label, set()).add(place.controller)
    keys: dict[Place, str] = {}
    for place in places:
        named = owners.get(_bare(place.label), set())
        if not place.label or len(controllers[place.label]) > 1:
            keys[place] = f"{place.controller}/{place.label or place.folder}"
        else:
            keys[place] = next(iter(named)) if len(named) == 1 else place.label
    return keys


def error_events(machine: Machine, counts: Mapping[str, Mapping[str, int]]) -> Iterator[Event]:
    """One event per slot and kind of error whose count rose."""
    flat = {(key, metric): count for key, found in counts.items() for metric, count in found.items()}
    for (key, metric), by in edges.rises(machine, "edac", flat).items():
        kind = _WORDS[metric]
        yield Event(
            at_ms=0,
            kind="memory.error",
            key=key,
            severity=Severity.CRITICAL if kind == "uncorrected" else Severity.WARNING,
            text=f"{by} {kind} memory errors at {key}",
            data={"type": kind, "errors": by, "total": flat[key, metric]},
        )


def _dimms(machine: Machine) -> list[Dimm]:
    """The slots; none where their table cannot be read, which costs the labels their keys and no count."""
    try:
        return read_dimms(machine)
    except MachineError:
        return []


def _counts(machine: Machine, folder: str, name: str) -> dict[str, int]:
    """Metric -> count, of the counters that the kernel has."""
    counts = {metric: sysfs.number(machine, f"{folder}/{name.format(kind)}") for kind, metric in COUNTERS.items()}
    return {metric: count for metric, count in counts.items() if count is not None}


def _bare(name: str) -> str:
    """The same for `A1`, `DIMM_A1` and `dimm-a1`: boards, firmware and label tables spell a slot differently."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("dimm")
