"""The table of what is plugged into the NICs: module, light, and the port at the other end of the cable."""

from collections.abc import Sequence

from rich.text import Text

from hwdb.cli.output import clean
from hwdb.parts import Values, some
from tuners.hostfacts import HostFacts
from wire.facts import Lldp, Nic, Optics

MOST_LANES = 4  # whose values stand one by one
HEADERS = ("NIC", "module", "part", "serial", "Tx dBm", "Rx dBm", "°C", "far end")


def rows(facts: HostFacts, values: Values) -> list[list[Text]]:
    """A row per NIC that has a module or a neighbour, in the order of their names."""
    modules = {one.key: one for one in facts.of(Optics)}
    heard: dict[str, list[Lldp]] = {}
    for one in facts.of(Lldp):
        heard.setdefault(one.port_key or one.key, []).append(one)
    nics = sorted(facts.of(Nic), key=lambda nic: (len(nic.ifname), nic.ifname))
    return [
        [
            Text(clean(text))
            for text in (nic.ifname, *_module(modules.get(nic.key), values), _far(heard.get(nic.key, [])))
        ]
        for nic in nics
        if nic.key in modules or nic.key in heard
    ]


def _module(one: Optics | None, values: Values) -> tuple[str, ...]:
    if one is None:
        return ("-",) * 6
    if one.state != "ok" and not one.part:
        return (f"{one.form} {one.state}".strip(), one.reason, "", "", "", "")
    kind = " ".join(filter(None, (one.form, some(one.media[:1]))))
    light = (_lanes(values, f"optics.{way}_power_dbm", one.key) for way in ("tx", "rx"))
    heat = _lanes(values, "optics.temperature_celsius", one.key)
    return (kind, f"{one.vendor} {one.part}".strip(), one.serial, *light, heat)


def _lanes(values: Values, metric: str, key: str) -> str:
    """The newest values of a module, lane by lane; of many lanes the lowest and the highest, and how many they are."""
    found = sorted((of_key, value) for (name, of_key), value in values.items() if name == metric)
    lanes = [f"{value:.1f}" for of_key, value in found if of_key == key or of_key.startswith(f"{key}/")]
    if len(lanes) > 1 and len(set(lanes)) == 1:
        return f"{lanes[0]} x{len(lanes)}"
    if len(lanes) > MOST_LANES:
        return f"{min(lanes, key=float)} to {max(lanes, key=float)} x{len(lanes)}"
    return " ".join(lanes)


def _far(heard: Sequence[Lldp]) -> str:
    told = [
        f"blocked: {one.reason}"
        if one.state == "blocked"
        else " ".join(filter(None, (one.system_name or one.chassis_id, one.port_id or one.port_description)))
        for one in heard
    ]
    return some(told)
