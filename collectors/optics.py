"""Transceivers and cables: who made them, what they measure, and when they complain."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from collectors.about import About, Cost
from collectors.links import Port, read_own_ports
from machine import DeniedError, Machine, MachineError, NotPresentError, eeprom
from machine.eeprom import Read
from wire.facts import Optics
from wire.report import Event, Sample

if TYPE_CHECKING:
    from collectors.transceiver.cage import Cage

NAME = "optics"
EVERY_S = 30.0
DEADLINE_S = 30.0

ABOUT = About(
    what="modules and cables of the NICs: identity, thresholds, flags, what they measure per lane",
    source="ethtool netlink MODULE_EEPROM_GET, else the ioctl; decoded by SFF-8472, SFF-8636, CMIS",
    cost=Cost.SLOW,
    privileges="CAP_NET_ADMIN",
    metrics={
        "optics.temperature_celsius": 0.5,
        "optics.vcc_volts": 0.01,
        "optics.rx_power_dbm": 0.2,
        "optics.tx_power_dbm": 0.2,
        "optics.rx_power_mw": 0.02,
        "optics.tx_power_mw": 0.02,
        "optics.tx_bias_ma": 0.5,
        "optics.laser_temperature_celsius": 0.5,
        "optics.tec_percent": 2.0,
        "optics.snr_media_db": 0.3,
        "optics.snr_host_db": 0.3,
        "optics.prefec_ber_media": 1e-7,
        "optics.prefec_ber_host": 1e-7,
        "optics.frame_error_ratio_media": 1e-9,
        "optics.frame_error_ratio_host": 1e-9,
        "optics.laser_age_percent": 1.0,
        "optics.laser_frequency_error_mhz": 100,
        "optics.osnr_db": 0.3,
        "optics.esnr_db": 0.3,
        "optics.pdl_db": 0.2,
        "optics.dgd_ps": 0.5,
        "optics.carrier_offset_mhz": 50,
        "optics.rx_total_power_dbm": 0.2,
        "optics.rx_signal_power_dbm": 0.2,
    },
)

_AGAIN = 10  # runs until a driver that has no way to a module is asked again
_PROBE = Read(eeprom.A0, 0, 0, 0, 8)  # no flag lies there, which reading would clear
_cages: "WeakKeyDictionary[Machine, dict[str, Cage]]" = WeakKeyDictionary()
_without: "WeakKeyDictionary[Machine, dict[str, int]]" = WeakKeyDictionary()


def collect(machine: Machine) -> Iterator[Optics | Sample | Event]:
    """One `Optics` per module, its samples and events. Raises NotPresentError where no driver reads modules."""
    cages, without = _cages.setdefault(machine, {}), _without.setdefault(machine, {})
    ports = [port for port in read_own_ports(machine) if port.device]
    with_cage = [port for port in ports if port.key in cages or _has_way(machine, port, without)]
    for key in cages.keys() - {port.key for port in ports}:
        del cages[key]
    if not with_cage:
        raise NotPresentError("no NIC has a driver that reads modules")
    from collectors.transceiver import cage  # noqa: PLC0415 - 0.4 MB that a machine without modules does without

    for port in with_cage:
        if port.key not in cages:
            cages[port.key] = cage.Cage()
        yield from cage.look(machine, port, cages[port.key])


def _has_way(machine: Machine, port: Port, without: dict[str, int]) -> bool:
    """Whether the NIC's driver can read a module, an empty cage included."""
    left = without.get(port.key, 0)
    if left:
        without[port.key] = left - 1
        return False
    try:
        eeprom.Module(machine, port.link.ifindex, port.link.ifname).read(_PROBE)
    except NotPresentError as error:
        if error.code in eeprom.EMPTY:
            return True
        without[port.key] = _AGAIN
        return False
    except DeniedError:
        raise
    except MachineError:  # there is a way, and a module that does not answer
        return True
    return True
