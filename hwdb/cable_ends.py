"""Which machine and which port of the inventory a neighbour is: what LLDP announces against what the machines report.

Equipment spells itself in many ways: a MAC with colons, dots or none, a short or a full name, `Gi1/0/29` for
`GigabitEthernet1/0/29`, a port by MAC, by name, by a number of its own. A bond's ports share its MAC and keep their
permanent ones.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from wire.facts import Lldp, Nic, Port

_MAC = re.compile(r"(?:[0-9a-f]{2}[:-]?){5}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}")
_MAC_SIZES = (12, 14, 17)
_IFNAME = re.compile(r"([a-z][a-z-]*?)[ -]*(\d[\d/.:]*(?:_\d+)?)")
_ADDRESS = re.compile(r"[\d.]+|[0-9a-f:]*:[0-9a-f:]*")
_SAYS_NOTHING = frozenset({"", "localhost", "localhost.localdomain", "(none)", "none", "unknown", "not advertised"})
_NO_MACS = frozenset({"", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"})


class End(NamedTuple):
    """One end of a cable; without a `host_id` it is no machine of the inventory, and named as it announces itself."""

    host_id: str
    hostname: str
    port_key: str  # "" where the port is none that the machine reports
    port: str


class Jack(NamedTuple):
    """One port of a machine, by all that it may be called."""

    key: str
    name: str
    physical: bool
    perm_mac: str
    mac: str
    words: frozenset[str]  # names and identifiers, as `plain` has them
    notes: frozenset[str]  # what people wrote about it


class Box(NamedTuple):
    """One machine: a server or a switch."""

    host_id: str
    hostname: str
    names: frozenset[str]
    chassis: frozenset[str]
    jacks: Mapping[str, Jack]
    server: bool  # it has NICs; else it is a switch


def plain(text: str) -> str:
    """An identifier in one spelling: lower case, a MAC with colons."""
    said = text.strip().lower()
    if len(said) not in _MAC_SIZES or not _MAC.fullmatch(said):
        return said
    if said.count(":") == 5:
        return said
    digits = re.sub(r"[^0-9a-f]", "", said)
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def names(text: str) -> list[str]:
    """A system's name as it is and, where it has a domain, without; none for what names nobody."""
    said = re.sub(r"\(.*\)$", "", text.strip().lower()).strip(". ")
    if said in _SAYS_NOTHING:
        return []
    short = said if _ADDRESS.fullmatch(said) else said.partition(".")[0]
    return [said] if short == said else [said, short]


def same_port(one: str, other: str) -> bool:
    """Whether two names are of one port: equal, or one's words the beginning of the other's before equal numbers."""
    left, right = plain(one), plain(other)
    if left == right:
        return bool(left)
    first, second = _IFNAME.fullmatch(_unit(left)), _IFNAME.fullmatch(_unit(right))
    if not first or not second or first[2] != second[2]:
        return False
    return first[1].startswith(second[1]) or second[1].startswith(first[1])


def _unit(name: str) -> str:
    """Without the unit that Junos gives every port: `et-0/0/20.0`."""
    return re.sub(r"^([a-z]{2}-\d+/\d+/\d+)\.0$", r"\1", name)


def box(host_id: str, hostname: str, facts: Iterable[Nic | Port | Lldp], called: Iterable[str] = ()) -> Box:
    """A machine from its facts; `called` are further names of it."""
    found = list(facts)
    heard = [fact for fact in found if isinstance(fact, Lldp)]
    jacks = {fact.key: _jack(fact) for fact in found if not isinstance(fact, Lldp)}
    for fact in heard:
        key = fact.port_key or fact.key
        jacks[key] = _with(jacks.get(key), fact, key)
    spoken = [hostname, *called, *(fact.local_system_name for fact in heard)]
    chassis = {plain(fact.local_chassis_id) for fact in heard}
    macs = {mac for jack in jacks.values() for mac in (jack.mac, jack.perm_mac)}
    server = any(isinstance(fact, Nic) for fact in found)
    named = frozenset(name for text in spoken for name in names(text))
    return Box(host_id, hostname, named, frozenset((chassis | macs) - _NO_MACS), jacks, server)


def _jack(fact: Nic | Port) -> Jack:
    if isinstance(fact, Nic):
        words = {plain(name) for name in (fact.ifname, *fact.altnames)}
        macs = plain(fact.perm_mac), plain(fact.mac)
        return Jack(fact.key, fact.ifname, fact.type == "physical", *macs, frozenset(words - {""}), frozenset())
    words = {plain(name) for name in (fact.name, fact.description, str(fact.ifindex or ""))}
    notes = frozenset({plain(fact.alias)} - {""})
    return Jack(fact.key, fact.name, True, "", plain(fact.mac), frozenset(words - {""}), notes)


def _with(jack: Jack | None, fact: Lldp, key: str) -> Jack:
    """The port with what LLDP calls it."""
    words = {plain(fact.port), plain(fact.local_port_id)} - {""}
    notes = {plain(fact.local_port_description)} - {""}
    if jack is None:
        macs = plain(fact.local_perm_mac), plain(fact.local_mac)
        return Jack(key, fact.port, True, *macs, frozenset(words), frozenset(notes))
    return jack._replace(words=jack.words | words, notes=jack.notes | notes)


class Fleet:
    """All machines, to be searched by what a neighbour announces."""

    def __init__(self, boxes: Iterable[Box]) -> None:
        self.boxes = {box.host_id: box for box in boxes}
        self._chassis: dict[str, set[str]] = {}
        self._macs: dict[str, set[str]] = {}
        self._names: dict[str, set[str]] = {}
        for one in self.boxes.values():
            _index(self._chassis, one.chassis, one.host_id)
            _index(self._names, one.names, one.host_id)
            _index(self._macs, (mac for jack in one.jacks.values() for mac in (jack.mac, jack.perm_mac)), one.host_id)

    def here(self, host_id: str, fact: Lldp) -> End:
        """The end at which a neighbour was heard."""
        return End(host_id, self.boxes[host_id].hostname, fact.port_key or fact.key, fact.port)

    def there(self, fact: Lldp) -> End:
        """The end that a neighbour is."""
        found = self._box(fact)
        announced = fact.port_id if fact.port_subtype != "mac" else fact.port_description or fact.port_id
        if found is None:
            return End("", fact.system_name or fact.chassis_id, "", announced)
        jack = find_jack(found.jacks.values(), fact)
        key, port = (jack.key, jack.name) if jack else ("", announced)
        return End(found.host_id, found.hostname, key, port)

    def _box(self, fact: Lldp) -> Box | None:
        """The one machine that chassis id, else a port's MAC, else name tell; what tells several is narrowed down."""
        port = plain(fact.port_id)
        evidence = [
            self._chassis.get(plain(fact.chassis_id), set()),
            self._macs.get(port, set()) if port not in _NO_MACS else set[str](),
            *(self._names.get(name, set()) for name in names(fact.system_name)),
        ]
        left: set[str] = set()
        for found in evidence:
            left = (left & found or left) if left else set(found)
            if len(left) == 1:
                return self.boxes[next(iter(left))]
        return None


def _index(table: dict[str, set[str]], words: Iterable[str], host_id: str) -> None:
    for word in words:
        if word not in _NO_MACS:
            table.setdefault(word, set()).add(host_id)


_Fits = Callable[[Jack, str], bool]
_BY_NAME: tuple[_Fits, ...] = (
    lambda jack, text: text in jack.words,
    lambda jack, text: same_port(text, jack.name),
)
_BY_ID: tuple[_Fits, ...] = (  # the strongest first
    lambda jack, text: text == jack.perm_mac,
    lambda jack, text: text == jack.mac and jack.physical,
    lambda jack, text: text == jack.mac,
    *_BY_NAME,
)
_BY_NOTE: tuple[_Fits, ...] = (lambda jack, text: text in jack.notes,)


def find_jack(jacks: Collection[Jack], fact: Lldp) -> Jack | None:
    """The one port that the neighbour's port id, then its port description tell; hardware before what stands on it."""
    said, note = plain(fact.port_id), plain(fact.port_description)
    tests = [(said, _BY_ID), (note, _BY_NAME), (said, _BY_NOTE), (note, _BY_NOTE)]
    left = list(jacks)
    for text, fits in [(text, fits) for text, several in tests if text not in _NO_MACS for fits in several]:
        found = [jack for jack in left if fits(jack, text)]
        if len(found) == 1:
            return found[0]
        left = found or left
    return None
