"""Where ethtool 7.0 and sonic_xcvr read a module otherwise, it is a point in which they are known to be wrong.

Their output is beside the expected values: expected/ethtool/NAME.json and expected/sonic_xcvr/NAME.json.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from collectors.transceiver.decode import decode
from collectors.transceiver.image import LOWER, STANDARDS
from collectors.transceiver.says import Dom, Levels, Module
from tests.collectors.modules import dumps, folder, load

PEERS = folder() / "expected"
MW, MV, MA, CELSIUS = 1e-4, 1e-4, 1e-3, 1e-4  # what ethtool rounds to
ETHTOOL_LANES = {
    "laser_tx_bias_current": ("tx_bias_ma", MA),
    "laser_bias_current": ("tx_bias_ma", MA),
    "transmit_avg_optical_power": ("tx_mw", MW),
    "rx_power": ("rx_mw", MW),
}
ETHTOOL_LEVELS = {
    "laser_bias_current": ("tx_bias", MA),
    "laser_output_power": ("tx_power", MW),
    "module_temperature": ("temp", CELSIUS),
    "module_voltage": ("vcc", MV),
    "laser_rx_power": ("rx_power", MW),
}
LEVELS = ("high_alarm", "low_alarm", "high_warning", "low_warning")
SONIC_LEVELS = {"temp": "temp", "vcc": "vcc", "txbias": "tx_bias", "txpower": "tx_power", "rxpower": "rx_power"}
SONIC_DBM = 5e-3  # mW are rounded to three digits before the logarithm


class Pair(NamedTuple):
    """One value that both say."""

    name: str
    ours: float
    theirs: float
    step: float


def have(peer: str) -> list[Path]:
    return [path for path in dumps() if (PEERS / peer / f"{path.stem}.json").is_file()]


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def ethtool_pairs(module: Module, says: dict[str, Any]) -> Iterator[Pair]:
    """Monitors of the lanes that both have, and thresholds."""
    if module.dom:
        yield from ethtool_monitors(module.dom, says)
    for name, (field, step) in ETHTOOL_LEVELS.items():
        held = says.get(name)
        if field in module.thr and isinstance(held, dict):
            theirs = {level: held.get(f"{level}_threshold") for level in LEVELS}
            yield from levels_of(f"thr {field}", levels(module.thr[field]), theirs, step)


def ethtool_monitors(dom: Dom, says: dict[str, Any]) -> Iterator[Pair]:
    common = (("module_temperature_measurement", dom.temp_c, CELSIUS), ("module_voltage_measurement", dom.vcc_v, MV))
    for name, ours, step in common:
        if number(says.get(name)) and ours is not None:
            yield Pair(name, ours, says[name], step)
    for name, (field, step) in ETHTOOL_LANES.items():
        held = says.get(name)
        values = (held.get("values") or [held.get("value")]) if isinstance(held, dict) else held
        for lane, theirs in zip(dom.lanes, values if isinstance(values, list) else [values], strict=False):
            if number(theirs) and getattr(lane, field) is not None:
                yield Pair(f"lane {field}", getattr(lane, field), theirs, step)


def levels_of(name: str, ours: dict[str, Any], theirs: dict[str, Any], step: float) -> Iterator[Pair]:
    for level in LEVELS:
        if number(theirs[level]) and ours[level] is not None:
            yield Pair(name, ours[level], theirs[level], step)


def levels(of: Levels) -> dict[str, Any]:
    return dict(zip(LEVELS, msgspec.structs.astuple(of), strict=True))


def ethtool_is_wrong(module: Module, pair: Pair) -> bool:
    """Light and bias of external calibration; the scale of CMIS's bias; a second bank in the place of the first."""
    if module.dom and len(module.dom.lanes) > 8 and pair.name.startswith("lane "):
        return True
    if module.ddm.get("external") and pair.name.endswith(("rx_mw", "rx_power", "tx_bias", "tx_power", "tx_mw")):
        return True
    return module.bias_mult in (2, 4) and pair.name.endswith(("tx_bias_ma", "tx_bias"))


@pytest.mark.parametrize("path", have("ethtool"), ids=lambda path: path.stem)
def test_ethtool_differs_where_it_is_known_to_be_wrong(path: Path) -> None:
    image, family = load(path)
    module = decode(image, family)
    try:
        said = json.loads((PEERS / "ethtool" / f"{path.stem}.json").read_text())
    except ValueError:  # a hex dump in the place of JSON, of what it does not know
        assert (image.block(LOWER) or b"\0")[0] not in STANDARDS
        return
    pairs = list(ethtool_pairs(module, said[0] if isinstance(said, list) else said))
    wrong = [pair for pair in pairs if not math.isclose(pair.ours, pair.theirs, rel_tol=2e-4, abs_tol=pair.step)]
    assert [pair for pair in wrong if not ethtool_is_wrong(module, pair)] == []


def sonic_pairs(module: Module, said: dict[str, Any]) -> Iterator[Pair]:
    """Monitors and thresholds; powers in dBm."""
    real, thresholds = said.get("get_transceiver_dom_real_value"), said.get("get_transceiver_threshold_info")
    if module.dom and isinstance(real, dict):
        yield from sonic_monitors(module.dom, real)
    if not isinstance(thresholds, dict):
        return
    for prefix, field in SONIC_LEVELS.items():
        for level, ours in (levels(module.thr[field]) if field in module.thr else {}).items():
            theirs = thresholds.get(prefix + level.replace("_", ""))
            yield from in_dbm(f"thr {field}", ours, theirs) if field.endswith("power") else plain(field, ours, theirs)


def sonic_monitors(dom: Dom, real: dict[str, Any]) -> Iterator[Pair]:
    yield from plain("temperature", dom.temp_c, real.get("temperature"))
    yield from plain("voltage", dom.vcc_v, real.get("voltage"))
    for at, lane in enumerate(dom.lanes, 1):
        yield from plain("bias", lane.tx_bias_ma, real.get(f"tx{at}bias"))
        yield from in_dbm("tx", lane.tx_mw, real.get(f"tx{at}power"))
        yield from in_dbm("rx", lane.rx_mw, real.get(f"rx{at}power"))


def plain(name: str, ours: float | None, theirs: Any) -> Iterator[Pair]:
    if number(theirs) and ours is not None:
        yield Pair(name, ours, theirs, 2e-3)


def in_dbm(name: str, mw: float | None, theirs: Any) -> Iterator[Pair]:
    """Below 0.01 mW nothing is left of three digits."""
    if number(theirs) and mw and mw >= 0.01:
        yield Pair(name, 10 * math.log10(mw), theirs, SONIC_DBM / mw)


@pytest.mark.parametrize("path", have("sonic_xcvr"), ids=lambda path: path.stem)
def test_sonic_xcvr_differs_where_it_is_known_to_be_wrong(path: Path) -> None:
    module = decode(*load(path))
    pairs = list(sonic_pairs(module, json.loads((PEERS / "sonic_xcvr" / f"{path.stem}.json").read_text())))
    wrong = [pair for pair in pairs if not math.isclose(pair.ours, pair.theirs, rel_tol=1e-3, abs_tol=pair.step)]
    assert [pair for pair in wrong if not module.ddm.get("external")] == []


def test_the_peers_said_something() -> None:
    if not folder().is_dir():
        pytest.skip("the modules' EEPROMs are not here (RACKHAND_SFP_DATA, ../shared/data/sfp)")
    assert have("ethtool") or have("sonic_xcvr")
