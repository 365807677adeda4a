"""QSFP-DD, OSFP and what follows them (OIF-CMIS 3 to 5): lower page, pages 00h to 02h; lanes are in `cmis_lanes`."""

import struct

from collectors.transceiver import cmis_lanes, coherent, vdm
from collectors.transceiver.fields import CELSIUS, MA, MW, VOLT, flags, levels, oui, summed, text, u16
from collectors.transceiver.image import A0, BLOCK, LOWER, Blocks, Image
from collectors.transceiver.says import App, Aux, Dom, Flags, Id, Levels, Module

IDENTITY = 95  # bytes of page 00h that identity and its sum need
MONITORS = 32  # bytes of the lower page that state, flags and monitors need

_LOWER = struct.Struct(">hH3h")
_MULTIPLIERS = (0.1, 1, 10, 100)
_LONG_MULTIPLIERS = (50, 100, 200, 500)
_APPS, _MORE_APPS = 8, 7
TEC_PERCENT = 100 / 32767


def decode(image: Image) -> Module:
    """All that a CMIS module says; what was not read is named in `dropped`."""
    module = Module("cmis", dropped=list(image.dropped))
    lower, upper, advertised = image.block(LOWER), image.block(0), image.block(1)
    whole = len(lower) == BLOCK
    if len(lower) >= MONITORS:
        _state(module, lower)
    if whole:
        _lower(module, lower)
    else:
        module.dropped.append(f"the lower page has {len(lower)} bytes: no state, no monitors")
    if len(upper) >= IDENTITY:
        _identity(module, upper)
    else:
        module.dropped.append(f"page 00h has {len(upper)} bytes: no identity")
    if whole and not module.flat:
        _paged(module, image, advertised)
    if whole:
        module.dom = monitors(lower, module)
        if not module.flat:
            cmis_lanes.decode(module, image)
    return module


def _paged(module: Module, image: Image, advertised: bytes) -> None:
    if len(advertised) == BLOCK:
        _advertising(module, advertised)
    else:
        module.dropped.append(f"page 01h has {len(advertised)} bytes: nobody knows which monitors there are")
    page = image.block(2)
    if len(page) == BLOCK:
        module.thr = thresholds(page, module.bias_mult or 1)
        module.checksum["page02"] = summed(page, 0, 126, 127)
    else:
        module.dropped.append(f"page 02h has {len(page)} bytes: no thresholds")
    page = image.block(4)
    if len(page) == BLOCK:
        module.checksum["page04"] = summed(page, 0, 126, 127)
    module.vdm = vdm.decode(image, module.dropped)
    module.pm = coherent.decode(image) if module.pages_adv.get("coherent") else {}


def _state(module: Module, lower: bytes) -> None:
    module.rev = f"{lower[1] >> 4}.{lower[1] & 15}"
    module.flat = bool(lower[2] & 0x80)
    module.module_state, module.interrupt_deasserted = lower[3] >> 1 & 7, bool(lower[3] & 1)
    module.fault_cause = lower[41] if len(lower) > 41 else None
    module.flags = {**alarm_flags(lower)}


def _lower(module: Module, lower: bytes) -> None:
    module.low_pwr_allow_hw, module.low_pwr_req_sw = bool(lower[26] & 0x40), bool(lower[26] & 0x10)
    module.fw_active, module.media_type = f"{lower[39]}.{lower[40]}", lower[85]
    module.apps = _apps(lower, 86, _APPS)


def _apps(block: bytes, at: int, count: int) -> list[App]:
    """Descriptors up to the first that is unused."""
    found: list[App] = []
    for start in range(at, at + 4 * count, 4):
        host, media, lanes, assign = block[start : start + 4]
        if host == 0xFF or not (host or media or lanes):
            break
        found.append(App(host, media, lanes >> 4, lanes & 15, assign))
    return found


def _identity(module: Module, upper: bytes) -> None:
    """Page 00h; its byte 0 is byte 128 of the standard."""
    module.id = Id(
        identifier=upper[0],
        vendor=text(upper[1:17]),
        oui=oui(upper[17:20]),
        part=text(upper[20:36]),
        rev=text(upper[36:38]),
        serial=text(upper[38:54]),
        date=text(upper[54:62]),
        clei=text(upper[62:72]),
        connector=upper[75],
    )
    module.power_class, module.max_power_w = (upper[72] >> 5) + 1, upper[73] * 0.25
    module.cable_m = _MULTIPLIERS[upper[74] >> 6] * (upper[74] & 0x3F)
    module.attn_db = list(upper[76:81])
    module.media_lane_unsupported, module.tech = upper[82], upper[84]
    module.checksum["page00"] = summed(upper, 0, 93, 94)


def _advertising(module: Module, page: bytes) -> None:
    """Page 01h; its byte 0 is byte 128 of the standard."""
    module.fw_inactive, module.hw_rev = f"{page[0]}.{page[1]}", f"{page[2]}.{page[3]}"
    module.len = {
        "smf_km": _fibre_km(page[4], page[9]),
        "om5_m": page[5] * 2,
        "om4_m": page[6] * 2,
        "om3_m": page[7] * 2,
        "om2_m": page[8],
    }
    module.wavelength_nm, module.wavelength_tol_nm = u16(page, 10) * 0.05, u16(page, 12) * 0.005
    bits = page[14]
    module.pages_adv = {
        "network": bool(bits & 0x80),
        "vdm": bool(bits & 0x40),
        "diag": bool(bits & 0x20),
        "coherent": bool(bits & 0x10),
        "ff": bool(bits & 0x08),
        "user03": bool(bits & 0x04),
        "banks": bits & 3,
    }
    _monitors_advertised(module, page)
    module.rx_power_avg = bool(page[23] & 0x10)
    if module.apps and len(module.apps) == _APPS:
        module.more_apps = _apps(page, 95, _MORE_APPS)
    module.media_assign = list(page[48:63])
    module.checksum["page01"] = summed(page, 2, 126, 127)


def _fibre_km(length: int, more: int) -> float:
    scale = _LONG_MULTIPLIERS[more >> 6] if length >> 6 == 3 else _MULTIPLIERS[length >> 6]
    return scale * (length & 0x3F)


def _monitors_advertised(module: Module, page: bytes) -> None:
    common, lanes = page[31], page[32]
    names = ("temp", "vcc", "aux1", "aux2", "aux3", "custom")
    module.mon_adv = {name: bool(common >> bit & 1) for bit, name in enumerate(names)}
    module.mon_adv |= {name: bool(lanes >> bit & 1) for bit, name in enumerate(("tx_bias", "tx_power", "rx_power"))}
    module.bias_mult = 1 << (lanes >> 3 & 3) if lanes >> 3 & 3 < 3 else 1
    module.aux_kinds = aux_kinds(page[17])


def aux_kinds(selectors: int) -> list[str]:
    """What the three auxiliary monitors measure, of byte 145 of page 01h."""
    return [
        "tec_pct" if selectors & 1 else "custom",
        "tec_pct" if selectors & 2 else "laser_temp_c",
        "vcc2_v" if selectors & 4 else "laser_temp_c",
    ]


def monitors(lower: bytes, module: Module) -> Dom:
    """Temperature, supply and the auxiliary monitors that are there; `lower` holds `MONITORS` bytes."""
    temp, vcc, *aux = _LOWER.unpack_from(lower, 14)
    dom = Dom(temp * CELSIUS, vcc * VOLT, [])
    if module.mon_adv:
        dom.aux1, dom.aux2, dom.aux3 = (
            _aux(kind, raw) if module.mon_adv[name] else None
            for name, kind, raw in zip(("aux1", "aux2", "aux3"), module.aux_kinds, aux, strict=True)
        )
    return dom


def refresh(now: Module, module: Module, blocks: Blocks) -> None:
    """Into `now` what a poll's bytes say of a module that was decoded whole before."""
    lower = blocks[A0, 0, LOWER]
    _state(now, lower)
    now.bias_mult = module.bias_mult
    now.dom = monitors(lower, module)
    now.vdm = vdm.refresh(module.vdm, blocks)
    cmis_lanes.decode(now, Image(blocks, []))


def _aux(kind: str, raw: int) -> Aux:
    match kind:
        case "tec_pct":
            return Aux(kind, raw * TEC_PERCENT)
        case "laser_temp_c":
            return Aux(kind, raw * CELSIUS)
        case "vcc2_v":
            return Aux(kind, (raw & 0xFFFF) * VOLT)
        case _:
            return Aux(kind, raw)


def alarm_flags(lower: bytes) -> dict[str, Flags]:
    """Byte 9: each nibble has the low warning as its highest bit, the high alarm as its lowest."""
    return {"temp": _reversed(lower[9] & 15), "vcc": _reversed(lower[9] >> 4)}


def _reversed(bits: int) -> Flags:
    return flags((bits & 1) << 3 | (bits & 2) << 1 | (bits & 4) >> 1 | bits >> 3)


def thresholds(page: bytes, multiplier: int) -> dict[str, Levels]:
    """Page 02h; its byte 0 is byte 128 of the standard."""
    return {
        "temp": levels(page, 0, CELSIUS, signed=True),
        "vcc": levels(page, 8, VOLT),
        "tx_power": levels(page, 48, MW),
        "tx_bias": levels(page, 56, MA * multiplier),
        "rx_power": levels(page, 64, MW),
    }
