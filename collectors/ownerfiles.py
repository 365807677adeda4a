"""Files that set what a policy may set: sysctl.d, udev's rules, systemd's .link, NetworkManager's profiles."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from collectors import sysfs
from collectors.inifile import parse_ini, section
from collectors.links import Port
from collectors.tuned import ethtool_name
from machine import Machine
from wire.facts.owners import Claim

# sysctl.d(5), udev(7), systemd.link(5): a file of an earlier folder hides those of its name in later ones.
SYSCTL = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
RULES = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d")
LINKS = ("/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network")
PROFILES = tuple(f"{top}/NetworkManager/system-connections" for top in ("/etc", "/run", "/usr/lib"))
MANAGER = ("/etc/systemd/system.conf", "/etc/systemd/system.conf.d")
MOST_CLAIMS = 256  # of one owner: a file is not believed without end
# those of net. are `sysctl`'s
SYSCTLS = ("vm.nr_hugepages", "vm.nr_overcommit_hugepages", "vm.zone_reclaim_mode", "kernel.numa_balancing")


class Device(NamedTuple):
    """A NIC as configuration files name it."""

    key: str
    ifname: str
    macs: tuple[str, ...]
    driver: str


def read_devices(machine: Machine, ports: Sequence[Port]) -> list[Device]:
    """The interfaces with hardware."""
    return [
        Device(
            port.key,
            port.link.ifname,
            tuple(mac.lower() for mac in (port.link.perm_mac, port.link.mac) if mac),
            sysfs.link_name(machine, f"{port.folder}/device/driver"),
        )
        for port in ports
        if port.device
    ]


def read_files(machine: Machine, folders: Sequence[str], suffix: str) -> list[tuple[str, str]]:
    """Path and text of the files that count, in the order of their names."""
    found: dict[str, str] = {}
    for folder in folders:
        for name in sysfs.names(machine, folder):
            if name.endswith(suffix):
                found.setdefault(name, f"{folder}/{name}")
    return [(path, text) for _, path in sorted(found.items()) if (text := sysfs.text(machine, path))]


# -- sysctl.d --------------------------------------------------------------------------------------------------------


def sysctl_claims(machine: Machine) -> list[Claim]:
    """One claim per key that a policy could set, the last file's; /etc/sysctl.conf comes last, as procps reads it."""
    last: dict[str, Claim] = {}
    files = read_files(machine, SYSCTL, ".conf")
    if text := sysfs.text(machine, "/etc/sysctl.conf"):
        files.append(("/etc/sysctl.conf", text))
    for path, text in files:
        for key, value in parse_sysctl(text):
            if key in SYSCTLS:
                last[key] = Claim(what=f"sysctl {key}", value=value, source=path)
    return [last[key] for key in sorted(last)][:MOST_CLAIMS]


def parse_sysctl(text: str) -> Iterator[tuple[str, str]]:
    """Keys with dots and their values; "-key = value" (errors do not matter) is one, "-key" alone and globs are not."""
    for raw in text.splitlines():
        name, equals, value = raw.strip().partition("=")
        name = name.strip().removeprefix("-")
        if equals and name and name[0] not in "#;" and "*" not in name:
            dotted = name if "." in name.partition("/")[0] else name.replace("/", ".")
            yield dotted.strip(), " ".join(value.split())


# -- udev's rules ----------------------------------------------------------------------------------------------------

_QUEUE_FILE = re.compile(r"\b(rps_cpus|rps_flow_cnt|xps_cpus|xps_rxqs)\b")
_NAPI_FILE = re.compile(r"ATTR\{(threaded|gro_flush_timeout|napi_defer_hard_irqs)\}\s*=[^=]")
_OTHER_FILES = {
    "sriov_numvfs": re.compile(r"ATTR\{(?:device/)?sriov_numvfs\}\s*=[^=]"),
    "mtu": re.compile(r"ATTR\{mtu\}\s*=[^=]"),
    "tx_queue_len": re.compile(r"ATTR\{tx_queue_len\}\s*=[^=]"),
}
_OTHER = {"sriov_numvfs": "sriov numvfs", "mtu": "link mtu", "tx_queue_len": "qdisc txqueuelen"}
_ETHTOOL = re.compile(r"\bethtool\s+(-[GLCKA]|--(?:set-ring|set-channels|coalesce|features|offload|pause)|-s)\b")
_FLAGS = {
    **{"-G": "rings", "--set-ring": "rings", "-L": "channels", "--set-channels": "channels"},
    **{"-C": "coalesce", "--coalesce": "coalesce", "-K": "features", "--features": "features"},
    **{"--offload": "features", "-A": "pause", "--pause": "pause", "-s": "link"},
}


def udev_claims(machine: Machine, devices: Sequence[Device]) -> list[Claim]:
    """What rules write into queues and NICs when these come, themselves or by ethtool."""
    claims: dict[Claim, None] = {}
    for path, text in read_files(machine, RULES, ".rules"):
        for line in text.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                for what in _rule(line):
                    claims.update({Claim(what=what, nic=key, source=path): None for key in _named(line, devices)})
    return list(claims)[:MOST_CLAIMS]


def _rule(line: str) -> Iterator[str]:
    """What a line of rules assigns."""
    if "=" in line:
        yield from (f"queues {name}" for name in _QUEUE_FILE.findall(line))
        yield from (f"napi {name}" for name in _NAPI_FILE.findall(line))
        yield from (_OTHER[name] for name, pattern in _OTHER_FILES.items() if pattern.search(line))
        yield from (f"{_FLAGS[flag]} *" for flag in _ETHTOOL.findall(line))


_MATCH = re.compile(r'(?:\b(?:KERNEL|NAME|ENV\{INTERFACE\})|ATTR\{address\})\s*==\s*"([^"]+)"')
_DRIVER = re.compile(r'\bDRIVERS?\s*==\s*"([^"]+)"')


def _named(line: str, devices: Sequence[Device]) -> list[str]:
    """Keys of the NICs that a rule names; [""] for all where it names none."""
    names = [pattern.lower() for text in _MATCH.findall(line) for pattern in text.split("|")]
    names = [name for name in names if not name.startswith(("rx-", "tx-"))]
    drivers = [pattern for text in _DRIVER.findall(line) for pattern in text.split("|")]
    if not names and not drivers:
        return [""]
    return [
        each.key
        for each in devices
        if any(fnmatchcase(one.lower(), name) for one in (each.ifname, *each.macs) for name in names)
        or any(fnmatchcase(each.driver, driver) for driver in drivers)
    ]


# -- systemd's .link -------------------------------------------------------------------------------------------------

_LINK = {
    **{"RxBufferSize": "rings rx", "TxBufferSize": "rings tx"},
    **{"RxChannels": "channels rx", "TxChannels": "channels tx", "CombinedChannels": "channels combined"},
    **{"UseAdaptiveRxCoalesce": "coalesce use_adaptive_rx", "UseAdaptiveTxCoalesce": "coalesce use_adaptive_tx"},
    **{"RxCoalesceSec": "coalesce rx_usecs", "TxCoalesceSec": "coalesce tx_usecs"},
    **{"RxMaxCoalescedFrames": "coalesce rx_max_frames", "TxMaxCoalescedFrames": "coalesce tx_max_frames"},
    **{"GenericReceiveOffload": "features gro", "GenericSegmentationOffload": "features gso"},
    **{"LargeReceiveOffload": "features lro", "TCPSegmentationOffload": "features tso"},
    **{"NTupleFilter": "features ntuple", "GenericReceiveOffloadHardware": "features gro-hw"},
    **{"RxFlowControl": "pause rx", "TxFlowControl": "pause tx", "AutoNegotiationFlowControl": "pause autoneg"},
    **{"MTUBytes": "link mtu", "BitsPerSecond": "link speed", "Duplex": "link duplex"},
    **{"AutoNegotiation": "link autoneg", "TransmitQueueLength": "qdisc txqueuelen"},
    **{"SR-IOVVirtualFunctions": "sriov numvfs", "ReceivePacketSteeringCPUMask": "queues rps_cpus"},
}


def link_claims(machine: Machine, devices: Sequence[Device]) -> list[Claim]:
    """What the .link file that a NIC matches first sets when the NIC comes."""
    files = [(path, text) for path, text in read_files(machine, LINKS, ".link") if "[Match]" in text]
    claims: list[Claim] = []
    for device in devices:
        path, text = next(((path, text) for path, text in files if _matches(section(text, "Match"), device)), ("", ""))
        for name, value in section(text, "Link").items():
            if name in _LINK and value:
                claims.append(Claim(what=_LINK[name], value=value.lower(), nic=device.key, source=path))
    return claims[:MOST_CLAIMS]


def _matches(match: Mapping[str, str], device: Device) -> bool:
    """Whether a [Match] section names the NIC by what is known of it; by anything else it does not."""
    tests: dict[str, Callable[[list[str]], bool]] = {
        "OriginalName": lambda words: _any(device.ifname, words),
        "MACAddress": lambda words: bool({*device.macs} & {word.lower() for word in words}),
        "PermanentMACAddress": lambda words: bool({*device.macs} & {word.lower() for word in words}),
        "Driver": lambda words: _any(device.driver, words),
        "Type": lambda words: _any("ether", words),
    }
    return bool(match) and all(name in tests and tests[name](value.split()) for name, value in match.items())


def _any(text: str, patterns: Sequence[str]) -> bool:
    negated = bool(patterns) and patterns[0].startswith("!")
    return any(fnmatchcase(text, pattern.removeprefix("!")) for pattern in patterns) != negated


# -- NetworkManager's profiles ---------------------------------------------------------------------------------------

_ETHERNET = {"mtu": "link mtu", "speed": "link speed", "duplex": "link duplex", "auto-negotiate": "link autoneg"}
_SUBJECTS = {"feature": "features", "coalesce": "coalesce", "ring": "rings", "channels": "channels", "pause": "pause"}


def profile_claims(machine: Machine, devices: Sequence[Device]) -> list[Claim]:
    """What NetworkManager's stored profiles set on the NICs that they name; on all where they name none."""
    claims: list[Claim] = []
    for path, text in read_files(machine, PROFILES, ".nmconnection"):
        found = [(what, value) for title, pairs in parse_ini(text) for what, value in _sets(title, pairs)]
        nics = _of_profile(text, devices) if found else []
        claims += [Claim(what=what, value=value, nic=nic, source=path) for what, value in found for nic in nics]
    return claims[:MOST_CLAIMS]


def _sets(title: str, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, value in pairs:
        if title in ("ethernet", "802-3-ethernet") and name in _ETHERNET:
            yield _ETHERNET[name], value
        elif title == "sriov" and name == "total-vfs":
            yield "sriov numvfs", value
        elif title == "ethtool":
            group, _, rest = name.partition("-")
            if group in _SUBJECTS and rest:
                subject = _SUBJECTS[group]
                yield f"{subject} {ethtool_name(subject, rest)}", value
            elif group in ("eee", "fec"):
                yield f"link {group}", value


def _of_profile(text: str, devices: Sequence[Device]) -> list[str]:
    name = section(text, "connection").get("interface-name", "")
    mac = section(text, "ethernet").get("mac-address", "").lower()
    if not name and not mac:
        return [""]
    return [each.key for each in devices if (not name or each.ifname == name) and (not mac or mac in each.macs)]


# -- systemd itself --------------------------------------------------------------------------------------------------


def runtime_watchdog(machine: Machine) -> list[Claim]:
    """systemd's own feeding of the watchdog, where its configuration switches that on."""
    said: dict[str, str] = {}
    for path, text in [(MANAGER[0], sysfs.text(machine, MANAGER[0])), *read_files(machine, MANAGER[1:], ".conf")]:
        if value := section(text, "Manager").get("RuntimeWatchdogSec"):
            said = {"value": value, "source": path}
    if said.get("value", "off").lower() in ("off", "0", "infinity", "default"):
        return []
    return [Claim(what="watchdog timeout", **said)]
