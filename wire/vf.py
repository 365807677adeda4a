"""Settings of virtual functions as one line of text: `0-3 vlan=100/3 trust=on; 4 mac=02:00:00:00:00:04`.

Groups are separated by ";", each is a list of functions and words NAME=VALUE. `WORDS` has the words; what a word sets
has the names of the fields of VirtFunction.
"""

import re
from collections.abc import Callable, Mapping

from wire.cpulist import format_cpulist, parse_cpulist

Settings = dict[str, str | int | bool]  # by VirtFunction's field

MOST = 4096  # functions
NO_DRIVER = "none"
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_DRIVER = re.compile(r"[A-Za-z0-9_-]{1,40}")
_PROTOCOLS = {"802.1q": "802.1Q", "802.1ad": "802.1ad"}
_SWITCHES = {"on": True, "off": False}
# What the kernel takes and tells together, in the order in which it is set: trust taken away refuses a later MAC.
TOGETHER = (
    ("mac",),
    ("vlan_id", "vlan_qos", "vlan_protocol"),
    ("spoofchk",),
    ("trust",),
    ("min_tx_mbps", "max_tx_mbps"),
    ("link_state",),
)


def parse_vfs(text: str) -> dict[int, Settings]:
    """What is asked of each function, by index; raises ValueError with what is wrong, in words."""
    found: dict[int, Settings] = {}
    for group in filter(None, map(str.strip, text.split(";"))):
        listed, *words = group.split()
        settings: Settings = {}
        for word in words:
            settings |= _word(word)
        numbers = _numbers(listed)
        if not settings:
            raise ValueError(f'"{group[:40]}" sets nothing')
        if settings.get("mac") and len(numbers) > 1:
            raise ValueError(f"functions {listed[:40]} cannot share one MAC")
        for number in numbers:
            if twice := sorted(found.get(number, {}).keys() & settings.keys()):
                raise ValueError(f"function {number} has {twice[0]} twice")
            found[number] = {**found.get(number, {}), **settings}
    return found


def _numbers(text: str) -> list[int]:
    try:
        numbers = parse_cpulist(text)
    except ValueError:
        numbers = []
    if not numbers or numbers[-1] >= MOST:
        raise ValueError(f'"{text[:40]}" is no list of functions such as 0-3,8')
    return numbers


def _word(text: str) -> Settings:
    name, equals, value = text.partition("=")
    if not equals or name not in WORDS:
        raise ValueError(f'"{text[:40]}" is none of {", ".join(f"{word}=" for word in WORDS)}')
    return WORDS[name](value)


def _mac(text: str) -> Settings:
    mac = text.lower()
    if mac == "none":
        return {"mac": ""}
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or not int(mac.replace(":", ""), 16):
        raise ValueError(f'mac "{text[:40]}" is no address of one station, and not none')
    return {"mac": mac}


def _vlan(text: str) -> Settings:
    number, *rest = text.split("/")
    qos, protocol = (rest + ["0", "802.1q"][len(rest) :])[:2]
    sound = len(rest) <= 2 and number.isdigit() and qos.isdigit() and int(number) < 4095 and int(qos) < 8
    if not sound or protocol.lower() not in _PROTOCOLS:
        raise ValueError(f'vlan "{text[:40]}" is not ID, ID/PRIORITY or ID/PRIORITY/802.1ad (0: none)')
    named = _PROTOCOLS[protocol.lower()] if int(number) else ""
    if not named and protocol.lower() == "802.1ad":
        raise ValueError("vlan 0 has no protocol")
    return {"vlan_id": int(number), "vlan_qos": int(qos), "vlan_protocol": named}


def _switch(name: str) -> Callable[[str], Settings]:
    def parse(text: str) -> Settings:
        if text not in _SWITCHES:
            raise ValueError(f'{name} is on or off, not "{text[:40]}"')
        return {name: _SWITCHES[text]}

    return parse


def _rate(name: str) -> Callable[[str], Settings]:
    def parse(text: str) -> Settings:
        if not (text.isascii() and text.isdigit() and int(text) <= 1_000_000):
            raise ValueError(f'a rate is a whole number of Mbit/s (0: no limit), not "{text[:40]}"')
        return {name: int(text)}

    return parse


def _link(text: str) -> Settings:
    if text not in ("auto", "enable", "disable"):
        raise ValueError(f'link is auto, enable or disable, not "{text[:40]}"')
    return {"link_state": text}


def _driver(text: str) -> Settings:
    if not _DRIVER.fullmatch(text):
        raise ValueError(f'"{text[:40]}" is no driver\'s name')
    return {"driver": "" if text == NO_DRIVER else text}


WORDS: Mapping[str, Callable[[str], Settings]] = {
    "mac": _mac,
    "vlan": _vlan,
    "spoofchk": _switch("spoofchk"),
    "trust": _switch("trust"),
    "min_tx": _rate("min_tx_mbps"),
    "max_tx": _rate("max_tx_mbps"),
    "link": _link,
    "driver": _driver,
}


def format_vfs(functions: Mapping[int, Settings]) -> str:
    """The text of these settings, functions with the same ones in one group; `parse_vfs` gives them back."""
    groups: dict[str, list[int]] = {}
    for number in sorted(functions):
        if words := _words(functions[number]):
            groups.setdefault(words, []).append(number)
    return "; ".join(f"{format_cpulist(numbers)} {words}" for words, numbers in groups.items())


def _words(settings: Settings) -> str:
    words = [f"mac={settings['mac'] or 'none'}"] if "mac" in settings else []
    if "vlan_id" in settings:
        protocol = "/802.1ad" if settings.get("vlan_protocol") == "802.1ad" else ""
        words.append(f"vlan={settings['vlan_id']}/{settings.get('vlan_qos', 0)}{protocol}")
    words += [f"{name}={'on' if settings[name] else 'off'}" for name in ("spoofchk", "trust") if name in settings]
    rates = (("min_tx", "min_tx_mbps"), ("max_tx", "max_tx_mbps"))
    words += [f"{word}={settings[name]}" for word, name in rates if name in settings]
    words += [f"link={settings['link_state']}"] if "link_state" in settings else []
    words += [f"driver={settings['driver'] or NO_DRIVER}"] if "driver" in settings else []
    return " ".join(words)
