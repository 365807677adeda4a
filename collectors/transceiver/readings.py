"""What of a decoded module can be believed: readings without sentinels, thresholds that are set, flags that mean it."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from collectors.transceiver import words
from collectors.transceiver.quirks import quirk_of
from collectors.transceiver.says import Dom, Flags, Levels, Module, Vdm
from wire.facts import OpticsLimits

COPPER_TECH = 10  # SFF-8636 and CMIS: the lowest transmitter technology that is copper
COLDEST_C, HOTTEST_C = -60.0, 127.0
LOWEST_V, HIGHEST_V = 1.0, 6.5
SATURATED = 65534.5  # steps of a 16 bit register: FFFFh is the end of the scale or nothing at all
NO_LIGHT_MW = 0.00015  # one step is -40 dBm: what modules say that receive nothing

# Monitor of the standards -> metric; lanes come after the two of the whole module.
COMMON = {"temp": "temperature_celsius", "vcc": "vcc_volts"}
LANE = {"tx_bias": "tx_bias_ma", "tx_power": "tx_power_mw", "rx_power": "rx_power_mw"}
LABELS = {"temp": "temperature", "vcc": "supply", "tx_bias": "tx_bias", "tx_power": "tx_power", "rx_power": "rx_power"}
AUX = {"laser_temp_c": "laser_temperature_celsius", "tec_pct": "tec_percent"}


class Reading(NamedTuple):
    """One number: the metric without its collector, the lane from 1, 0 for the module."""

    metric: str
    lane: int
    value: float


class Believed(NamedTuple):
    """Which monitors of a module mean what they say, whatever they say just now; `doubt` is why there are none."""

    monitors: frozenset[str]  # keys of `COMMON` and `LANE`
    lanes: tuple[int, ...]  # from 0
    multiplier: int = 1  # of a step of bias
    doubt: str = ""


def believed(module: Module) -> Believed:
    """What its kind, its advertisements and its quirks leave."""
    if module.doubt:
        return Believed(frozenset(), (), doubt=module.doubt)
    match module.family:
        case "sff8472":
            return _sfp(module)
        case "sff8636":
            return _qsfp(module)
        case "cmis":
            return _cmis(module)
        case _:
            return Believed(frozenset(), (), doubt="not a kind of module that is known")


def _sfp(module: Module) -> Believed:
    if not module.ddm.get("implemented"):
        return Believed(frozenset(), (), doubt="no diagnostics")
    if module.ddm["addr_change"]:
        return Believed(frozenset(), (), doubt="diagnostics only after a change of address, which is a write")
    if quirk_of(module).copper:
        return Believed(frozenset(COMMON), ())
    return Believed(frozenset((*COMMON, *LANE)), (0,))


def _qsfp(module: Module) -> Believed:
    if module.tx_tech is not None and module.tx_tech >= COPPER_TECH:
        return Believed(frozenset(), (), doubt="a copper cable")
    lanes = set(LANE)
    if module.monitors is not None and not module.monitors & 4:
        lanes.discard("tx_power")
    return Believed(frozenset((*COMMON, *lanes)), (0, 1, 2, 3))


def _cmis(module: Module) -> Believed:
    if module.flat:
        return Believed(frozenset(), (), doubt="flat memory: no monitors")
    there = frozenset(name for name in (*COMMON, *LANE) if module.mon_adv.get(name))
    return Believed(there, tuple(media_lanes(module)), module.bias_mult or 1)


def media_lanes(module: Module) -> list[int]:
    """The lanes (from 0) that any application uses, without those that the module says it has not."""
    read = len(module.dom.lanes) if module.dom else 0
    used: set[int] = set()
    for app, assigned in zip(module.apps, module.media_assign, strict=False):
        for first in range(8):
            if assigned >> first & 1:
                used |= set(range(first, first + app.media_lanes))
    if read > 8:  # more than the mask and the assignments speak of: every bank as the first
        used |= {lane + 8 * bank for lane in used for bank in range(1, read // 8)}
    missing = module.media_lane_unsupported or 0
    every = used or set(range(read))
    return sorted(lane for lane in every if lane < read and not missing >> lane % 8 & 1)


def live(module: Module) -> str:
    """Why nothing can be read just now; "" when it can."""
    if module.family == "cmis" and module.module_state != words.READY:
        return words.word(words.MODULE_STATES, module.module_state) or "no state"
    if module.data_not_ready or module.status.get("data_not_ready"):
        return "not ready"
    return ""


def readings(dom: Dom, trusted: Believed) -> Iterator[Reading]:
    """What is measured; a supply that cannot be means that nothing is."""
    monitors = trusted.monitors
    if not monitors or not _is_fed(dom, monitors):
        return
    if "temp" in monitors and dom.temp_c is not None and is_temperature(dom.temp_c):
        yield Reading("temperature_celsius", 0, dom.temp_c)
    if "vcc" in monitors and dom.vcc_v is not None:
        yield Reading("vcc_volts", 0, dom.vcc_v)
    yield from _auxiliary(dom)
    most_ma, most_mw = SATURATED * 0.002 * trusted.multiplier, SATURATED * 0.0001
    for lane in trusted.lanes:
        if lane >= len(dom.lanes):
            return
        one = dom.lanes[lane]
        if "tx_bias" in monitors and one.tx_bias_ma is not None and one.tx_bias_ma < most_ma:
            yield Reading("tx_bias_ma", lane + 1, one.tx_bias_ma)
        if "tx_power" in monitors and one.tx_mw is not None and one.tx_mw < most_mw:
            yield from _power("tx_power", lane + 1, one.tx_mw)
        if "rx_power" in monitors and one.rx_mw is not None and one.rx_mw < most_mw:
            yield from _power("rx_power", lane + 1, one.rx_mw)


def _is_fed(dom: Dom, monitors: frozenset[str]) -> bool:
    """Whether the supply is one at which a module works; without that monitor only all zeros are doubted."""
    if "vcc" not in monitors or dom.vcc_v is None:
        return bool(dom.temp_c)
    return LOWEST_V <= dom.vcc_v <= HIGHEST_V


def is_temperature(celsius: float) -> bool:
    """Neither the ends of the scale (7FFFh, 8000h) nor FFFFh nor what no module survives."""
    return COLDEST_C < celsius < HOTTEST_C and celsius != -1 / 256


def _power(stem: str, lane: int, mw: float) -> Iterator[Reading]:
    """mW, 0 for no light, and dBm where there is a logarithm; one step is a sentinel and neither."""
    if mw <= 0:
        yield Reading(f"{stem}_mw", lane, 0.0)
    elif mw > NO_LIGHT_MW:
        yield Reading(f"{stem}_mw", lane, mw)
        yield Reading(f"{stem}_dbm", lane, dbm(mw))


def dbm(mw: float) -> float:
    """Decibels above a milliwatt, of more than nothing."""
    return 10 * math.log10(mw)


def _auxiliary(dom: Dom) -> Iterator[Reading]:
    seen: set[str] = set()
    for aux in (dom.aux1, dom.aux2, dom.aux3):
        metric = AUX.get(aux.kind, "") if aux else ""
        if aux is None or not metric or metric in seen:
            continue
        if metric == "tec_percent" or (is_temperature(aux.value) and aux.value):
            seen.add(metric)
            yield Reading(metric, 0, aux.value)


def limits(module: Module, trusted: Believed) -> dict[str, OpticsLimits]:
    """The thresholds that are set, by metric, power in mW and in dBm."""
    found: dict[str, OpticsLimits] = {}
    for name, levels in module.thr.items():
        if name not in trusted.monitors:
            continue
        top = {"temp": HOTTEST_C, "vcc": HIGHEST_V, "tx_bias": SATURATED * 0.002 * trusted.multiplier}
        least, most = LOWEST_V if name == "vcc" else NO_LIGHT_MW, top.get(name, SATURATED * 0.0001)
        kept = _set(levels, signed=name == "temp", least=least, most=most)
        if kept == OpticsLimits():
            continue
        found[COMMON.get(name) or LANE[name]] = kept
        if name.endswith("_power"):
            found[f"{name}_dbm"] = _in_dbm(kept)
    return found


def _set(levels: Levels, *, signed: bool, least: float, most: float) -> OpticsLimits:
    """Levels without sentinels; of a pair that contradicts itself nothing."""
    high_alarm, low_alarm = _pair(levels.high_alarm, levels.low_alarm, signed=signed, least=least, most=most)
    high, low = _pair(levels.high_warn, levels.low_warn, signed=signed, least=least, most=most)
    return OpticsLimits(high_alarm, low_alarm, high, low)


def _pair(
    high: float | None, low: float | None, *, signed: bool, least: float, most: float
) -> tuple[float | None, float | None]:
    if high is None or low is None or high <= low:
        return None, None
    if signed:
        return high if is_temperature(high) else None, low if is_temperature(low) else None
    return high if least < high < most else None, low if least < low < most else None


def _in_dbm(kept: OpticsLimits) -> OpticsLimits:
    four = (kept.high_alarm, kept.low_alarm, kept.high_warning, kept.low_warning)
    return OpticsLimits(*(None if level is None else dbm(level) for level in four))


def module_flags(module: Module, set_limits: dict[str, OpticsLimits]) -> list[str]:
    """The flags of the whole module, of thresholds that are set: "temperature high alarm"."""
    if module.flags_implemented is False:
        return []
    found: list[str] = []
    for name, metric in COMMON.items():
        flags = module.flags.get(name)
        if isinstance(flags, Flags):
            found += _raised(LABELS[name], flags, set_limits.get(metric))
    return found


def lane_flags(module: Module, lane: int, set_limits: dict[str, OpticsLimits]) -> list[str]:
    """The flags of one lane, from 0: losses and faults, and monitors of thresholds that are set."""
    if module.family == "sff8472":
        found = [name for name in ("tx_fault", "rx_los") if module.status.get(name)]
    else:
        states = module.lane_flags[lane] if lane < len(module.lane_flags) else {}
        found = [name for name, on in states.items() if on]
    if module.flags_implemented is False:
        return found
    for name, metric in LANE.items():
        flags = module.flags.get(name)
        if isinstance(flags, list):
            flags = flags[lane] if lane < len(flags) else None
        if flags is not None:
            found += _raised(LABELS[name], flags, set_limits.get(metric))
    return found


def _raised(label: str, flags: Flags, levels: OpticsLimits | None) -> Iterable[str]:
    if levels is None:
        return
    pairs = (
        (flags.high_alarm, levels.high_alarm, "high alarm"),
        (flags.low_alarm, levels.low_alarm, "low alarm"),
        (flags.high_warn, levels.high_warning, "high warning"),
        (flags.low_warn, levels.low_warning, "low warning"),
    )
    for on, level, words_for in pairs:
        if on and level is not None:
            yield f"{label} {words_for}"


def observed(module: Module) -> Iterator[Reading]:
    """The versatile diagnostics that are worth a sample: FFFFh, ratios above 1 and -40 dBm are no readings."""
    if not module.vdm:
        return
    from collectors.transceiver.vdm import WANTED  # noqa: PLC0415 - there with the module that needs it

    for one in module.vdm:
        metric = WANTED.get(one.name or "")
        if metric and one.value is not None and one.raw not in (None, 0xFFFF) and _is_observable(metric, one):
            yield Reading(metric, one.lane, float(one.value))


def _is_observable(metric: str, one: Vdm) -> bool:
    value = one.value or 0.0
    if metric.startswith(("prefec", "frame")):
        return 0 <= value <= 1
    if metric.endswith("dbm"):
        return one.raw not in (0x7FFF, 0x8000) and value > -39.995
    return one.raw not in (0x7FFF, 0x8000)
