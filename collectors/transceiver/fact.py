"""A decoded module as the fact that the inventory keeps."""

import msgspec

from collectors.transceiver import readings, words
from collectors.transceiver.quirks import quirk_of
from collectors.transceiver.readings import Believed
from collectors.transceiver.says import Module
from wire.facts import Optics, OpticsApplication, OpticsLane

_LENGTHS = {  # SFF-8472 and SFF-8636 say kilometres of single-mode fibre, all else is in metres
    "om1_m": "om1",
    "om2_m": "om2",
    "om3_m": "om3",
    "om4_m": "om4",
    "om5_m": "om5",
    "cable_m": "cable",
}
_QSFP_ATTENUATION = {"g2_5": "2.5 GHz", "g5": "5 GHz", "g7": "7 GHz", "g12_9": "12.9 GHz"}
_CMIS_ATTENUATION = ("5 GHz", "7 GHz", "12.9 GHz", "25.8 GHz", "53.1 GHz")
_RJ45 = 0x22
UNKNOWN = "unknown module"
FAULT = words.MODULE_STATES[words.FAULT]


def optics(module: Module, key: str, ifname: str, trusted: Believed) -> Optics:
    """The whole fact; states and flags as they were when the module was read."""
    fact = Optics(key=key, ifname=ifname, standard=module.family, dropped=[text[:200] for text in module.dropped[:16]])
    if not module.family:
        fact.state, fact.identifier = UNKNOWN, module.id.identifier if module.id else None
        fact.form = words.word(words.FORMS, fact.identifier)
        return fact
    _identity(fact, module)
    fact.lengths_m, fact.attenuation_db = lengths(module), attenuation(module)
    fact.power_class, fact.max_power_w, fact.max_case_celsius = (
        module.power_class,
        module.max_power_w,
        module.max_case_c,
    )
    fact.firmware, fact.hardware = module.fw_active or "", module.hw_rev or ""
    fact.revision_of_standard = str(module.rev) if module.rev is not None else ""
    fact.applications = applications(module)
    fact.media = media(module, fact.applications)
    fact.checksums = module.checksum
    fact.diagnostics = diagnostics(module, trusted)
    fact.monitors = sorted({**readings.COMMON, **readings.LANE}[name] for name in trusted.monitors)
    fact.thresholds = readings.limits(module, trusted)
    fact.reason = trusted.doubt if module.id else "no identity"
    return with_state(fact, module, trusted)


def _identity(fact: Optics, module: Module) -> None:
    said = module.id
    if said is None:
        return
    fact.identifier, fact.form = said.identifier, words.word(words.FORMS, said.identifier)
    fact.connector = words.word(words.CONNECTORS, said.connector)
    fact.vendor, fact.part, fact.revision, fact.serial = said.vendor, said.part, said.rev, said.serial
    fact.oui = "" if said.oui in ("00:00:00", "ff:ff:ff") else said.oui
    fact.date, fact.lot = words.dated(said.date)
    fact.clei, fact.bitrate_mbd = said.clei or "", said.br_mbd or None
    if not quirk_of(module).copper and said.connector != _RJ45:
        fact.wavelength_nm = round(module.wavelength_nm, 3) if module.wavelength_nm else None
        fact.wavelength_tolerance_nm = round(module.wavelength_tol_nm, 3) if module.wavelength_tol_nm else None
    fact.frequency_ghz = frequency_ghz(module)


def frequency_ghz(module: Module) -> float | None:
    """Of a tunable laser that is locked: CMIS says it, SFF-8690 counts channels of a grid from the first one."""
    if module.tunable and module.tunable.channel and not module.tunable.unlocked:
        return round(module.tunable.first_thz * 1000 + (module.tunable.channel - 1) * module.tunable.grid_ghz, 3)
    laser = next((laser for laser in module.laser if not laser.unlocked), None)
    return round(laser.freq_ghz, 3) if laser and laser.freq_ghz else None


def lengths(module: Module) -> dict[str, float]:
    """Reach in metres by fibre, and a cable's length; nothing of what is 0 or stands for "longer than can be said"."""
    found = {name: float(said) for field, name in _LENGTHS.items() if (said := module.len.get(field))}
    km, hundreds = module.len.get("smf_km"), module.len.get("smf_100m")
    if km:
        found["smf"] = round(km * 1000, 1)
    elif hundreds:
        found["smf"] = hundreds * 100.0
    if module.len.get("cable_m"):  # of an SFP cable the register of OM3 scales the length
        found.pop("om3", None)
    if module.cable_m:
        found["cable"] = round(module.cable_m, 2)
    byte18 = module.len.get("byte18")
    if byte18 and not module.len.get("cable_m"):  # OM4 of an optical module, the reach of twisted pair
        copper = module.id is not None and module.id.connector == _RJ45
        found["twisted pair" if copper else "om4"] = float(byte18 if copper else byte18 * 10)
    return found


def attenuation(module: Module) -> dict[str, int]:
    """Of copper in dB, by frequency."""
    said = module.attn_db
    if isinstance(said, dict):
        return {name: said[field] for field, name in _QSFP_ATTENUATION.items() if said[field]}
    if isinstance(said, list):
        return {name: loss for name, loss in zip(_CMIS_ATTENUATION, said, strict=True) if loss}
    return {}


def applications(module: Module) -> list[OpticsApplication]:
    """What a CMIS module offers, without descriptors that say nothing."""
    table = words.MEDIA.get(module.media_type or 0, {})
    return [
        OpticsApplication(
            words.word(words.HOST, app.host_id), words.word(table, app.media_id), app.host_lanes, app.media_lanes
        )
        for app in (*module.apps, *module.more_apps)
        if app.host_id or app.media_id
    ]


def media(module: Module, offered: list[OpticsApplication]) -> list[str]:
    """The media that it is for, in the words of the standards."""
    copper = quirk_of(module).copper
    if copper:
        return [copper]
    if module.family == "cmis":
        kind = words.MEDIA_TYPES.get(module.media_type or 0)
        return list(dict.fromkeys([*([kind] if kind else []), *(app.media for app in offered if app.media)]))
    codes = words.coded(words.SFP_CODES if module.family == "sff8472" else words.QSFP_CODES, module.codes)
    extended = words.word(words.EXTENDED, module.id.ext_spec) if module.id else ""
    return [*codes, extended] if extended else codes


def diagnostics(module: Module, trusted: Believed) -> str:
    """Whose calibration the monitors have; "none" for those that are not there or not believed."""
    if not trusted.monitors:
        return "none"
    return "external" if module.ddm.get("external") else "internal"


def with_state(fact: Optics, module: Module, trusted: Believed) -> Optics:
    """The fact with the states and flags of a later poll; the same object when they are the same."""
    waiting = readings.live(module)
    lanes = lane_states(module, trusted, fact) if waiting in ("", FAULT) else []
    flags = readings.module_flags(module, fact.thresholds) if not waiting else []
    if waiting == FAULT:
        flags = ["module fault"]
    state = waiting or "ok"
    module_state = words.word(words.MODULE_STATES, module.module_state)
    cause = module.fault_cause if module.module_state == words.FAULT else None
    if (state, lanes, flags, module_state) == (fact.state, fact.lanes, fact.flags, fact.module_state):
        return fact
    return msgspec.structs.replace(
        fact, state=state, lanes=lanes, flags=flags, module_state=module_state, fault_cause=cause or None
    )


def is_same(before: Module, now: Module) -> bool:
    """Whether states and flags are as they were, so that the fact is."""
    return (
        before.flags == now.flags
        and before.lane_flags == now.lane_flags
        and before.status == now.status
        and before.module_state == now.module_state
        and before.data_not_ready == now.data_not_ready
        and before.dp_state == now.dp_state
        and before.config_status == now.config_status
        and before.active_app == now.active_app
    )


def lane_states(module: Module, trusted: Believed, fact: Optics) -> list[OpticsLane]:
    """The lanes that are used."""
    used = trusted.lanes or tuple(readings.media_lanes(module) if module.family == "cmis" else ())
    found: list[OpticsLane] = []
    for lane in used:
        one = OpticsLane(lane + 1, flags=readings.lane_flags(module, lane, fact.thresholds))
        if lane < len(module.dp_state):
            one.data_path = words.word(words.DATA_PATHS, module.dp_state[lane])
            one.config = words.word(words.CONFIGS, module.config_status[lane])
            one.application = module.active_app[lane] or None
        found.append(one)
    return found
