"""TuneD's active profile: the files it is made of, and what it sets, in the words of the kernel's interfaces."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from collectors import sysfs
from collectors.inifile import parse_ini
from machine import Machine
from wire.facts.owners import Claim

ACTIVE = "/etc/tuned/active_profile"
PID = "/run/tuned/tuned.pid"
# tuned/consts.py: administrators' profiles first, and below profiles/ since 2.23
FOLDERS = ("/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned")
MOST_FILES = 16  # a chain of includes is three or four long
_FALSE = ("0", "false", "no", "off")
_UNIT = ("type", "enabled", "replace", "devices", "devices_udev_regex", "priority", "script_pre", "script_post")
_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_]+)\}")

# Plugin -> option -> what it sets; a "*" stands for the words of the option's value ("rx 1024 tx 512").
_SETS: dict[str, dict[str, str]] = {
    "net": {
        "features": "features *",
        "coalesce": "coalesce *",
        "ring": "rings *",
        "channels": "channels *",
        "pause": "pause *",
        "mtu": "link mtu",
        "txqueuelen": "qdisc txqueuelen",
    },
    "cpu": {
        "governor": "cpu governor",
        "energy_perf_bias": "cpu epb",
        "energy_performance_preference": "cpu epp",
        "min_perf_pct": "cpu min_perf_pct",
        "max_perf_pct": "cpu max_perf_pct",
        "no_turbo": "cpu turbo",
        "boost": "cpu turbo",
        "force_latency": "cpu latency",
        "pm_qos_resume_latency_us": "cpu latency",
    },
    "uncore": {"max_freq_khz": "cpu uncore", "min_freq_khz": "cpu uncore", "max_freq_khz_delta": "cpu uncore"},
    "irq": {"affinity": "irq affinity"},
    "scheduler": {"isolated_cores": "placement cpus", "default_irq_smp_affinity": "irq default"},
    "vm": {"transparent_hugepages": "memory thp", "transparent_hugepage": "memory thp"},
}


class Unit(NamedTuple):
    """One section of a profile: a plugin at work on the devices that `devices` names."""

    plugin: str
    options: dict[str, str]
    sources: dict[str, str]  # option -> the file that said it last


def read_profile(machine: Machine) -> str:
    """The active profile's name, several in their order; "" without one."""
    return " ".join(sysfs.text(machine, ACTIVE).split())


def read_claims(machine: Machine, profile: str, nics: Mapping[str, str]) -> list[Claim]:
    """What the profile sets; `nics` is name -> key. What TuneD computes itself (`${f:...}`) stands as written."""
    variables: dict[str, str] = {}
    units: dict[str, Unit] = {}
    seen: list[str] = []
    for name in profile.split():
        _merge(machine, name, units, variables, seen)
    return [claim for unit in units.values() for claim in _claims(unit, variables, nics)]


def _find(machine: Machine, name: str) -> tuple[str, str]:
    """The path and text of a profile, the first of the folders; empty when there is none."""
    for folder in FOLDERS:
        path = f"{folder}/{name}/tuned.conf"
        if text := sysfs.text(machine, path):
            return path, text
    return "", ""


def _merge(machine: Machine, name: str, units: dict[str, Unit], variables: dict[str, str], seen: list[str]) -> None:
    """Lay a profile over what is there, after those that it includes."""
    path, text = _find(machine, name) if "/" not in name else ("", "")
    if not path or path in seen or len(seen) >= MOST_FILES:
        return
    seen.append(path)
    sections = parse_ini(text)
    main = {key: value for title, pairs in sections if title == "main" for key, value in pairs}
    for part in re.split(r"[\s,;]+", main.get("include", "")):
        _merge(machine, _expand(part.lstrip("-?"), variables), units, variables, seen)
    for title, pairs in sections:
        if title == "variables":
            variables.update({key: _expand(value, variables) for key, value in pairs})
        elif title != "main":
            _lay(units, title, dict(pairs), path)


def _lay(units: dict[str, Unit], title: str, options: dict[str, str], path: str) -> None:
    below = units.get(title)
    if below is None or options.get("replace", "").lower() in ("1", "true"):
        below = Unit(options.get("type", title), {}, {})
    sources = {**below.sources, **dict.fromkeys(options, path)}
    units[title] = Unit(options.get("type", below.plugin), {**below.options, **options}, sources)


def _expand(text: str, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), text).strip().strip('"')


def _claims(unit: Unit, variables: Mapping[str, str], nics: Mapping[str, str]) -> Iterator[Claim]:
    if unit.options.get("enabled", "1").lower() in _FALSE:
        return
    devices = _expand(unit.options.get("devices", ""), variables)
    for option, raw in unit.options.items():
        if option in _UNIT:
            continue
        value = _expand(raw, variables)
        for what, one in _what(unit.plugin, option, value):
            keys = _nics(devices, nics) if unit.plugin == "net" else [""]
            yield from (Claim(what=what, value=one, nic=nic, source=unit.sources[option]) for nic in keys)


def _what(plugin: str, option: str, value: str) -> list[tuple[str, str]]:
    if plugin == "sysctl":
        return [(f"sysctl {option.replace('/', '.')}", " ".join(value.split()))]
    if plugin == "sysfs":
        return [(f"file {option}", value)]
    what = _SETS.get(plugin, {}).get(option, "")
    if not what.endswith("*"):
        return [(what, value)] if what else []
    words = re.split(r"[\s,;:=]+", value.strip())
    pairs = zip(words[::2], words[1::2], strict=False)
    return [(what[:-1] + ethtool_name(what.partition(" ")[0], name), one) for name, one in pairs]


def ethtool_name(subject: str, name: str) -> str:
    """The kernel's name of what ethtool's command line calls so."""
    if subject == "features":
        return name
    word = name.replace("-", "_")
    word = word.replace("frames", "max_frames") if subject == "coalesce" else word
    return f"use_{word}" if word.startswith("adaptive_") else word


def _nics(devices: str, nics: Mapping[str, str]) -> list[str]:
    """Keys of the NICs that a list of patterns names, those with "!" left out; [""] (all) for no list."""
    patterns = [word for word in re.split(r"[\s,;]+", devices) if word]
    if not patterns or patterns == ["*"]:
        return [""]
    wanted = [word for word in patterns if not word.startswith("!")] or ["*"]
    shut = [word[1:] for word in patterns if word.startswith("!")]
    return [key for name, key in nics.items() if _fits(name, wanted) and not _fits(name, shut)]


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
