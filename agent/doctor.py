"""Can the agent do its work here: each kernel interface, rights, the broker, and what may be in the way."""

import enum
import glob
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.config import Config
from agent.events import hooks
from agent.events.watching import LOG
from collectors.registry import ALL
from machine import DeniedError, Machine, MachineError, NotPresentError, ethtool, netdev, rtnl
from machine.kmsg import KernelLog
from machine.monitor import Monitor

TOP_LEVEL = ("wire", "machine", "collectors", "pollers", "tuners", "agent", "hwdb")
CAP_NET_ADMIN = 12
BROKER_S = 5.0


class Verdict(enum.StrEnum):
    """How a check ended; only `failed` is something to act on."""

    OK = "ok"
    ABSENT = "absent"
    FAILED = "failed"


class Check(NamedTuple):
    """One line of the table."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def examine(config: Config, machine: Machine) -> Iterator[Check]:
    """Every check in turn; none raises, none changes anything."""
    for name, (read, remedy) in READS.items():
        yield _read(name, read, machine, remedy)
    yield from collectors()
    yield from _events(config)
    yield _capability("change NICs", CAP_NET_ADMIN)
    yield _irq_writable()
    yield _state(config.state)
    yield _broker(config)
    yield _systemd()
    yield _irqbalance(machine)
    yield from _packages()
    yield _python()


def _events(config: Config) -> Iterator[Check]:
    """A line for each group of announcements that is to be watched, and for each hook that may not be run."""
    for group in config.events.watch:
        try:
            (KernelLog() if group == LOG else Monitor(group)).close()
        except NotPresentError as error:
            yield Check(f"watch {group}", Verdict.ABSENT, str(error), "none: this kernel does not announce it")
        except MachineError as error:
            yield Check(
                f"watch {group}",
                Verdict.FAILED,
                str(error),
                "allow AF_NETLINK sockets (the log: CAP_SYSLOG), or take it out of watch",
            )
        else:
            yield Check(f"watch {group}", Verdict.OK, "")
    for name in dict.fromkeys(rule.hook for rule in config.events.rule if rule.hook):
        try:
            path = hooks.check(Path(config.events.hooks_dir), name)
        except hooks.RefusedError as error:
            yield Check(f"hook {name}", Verdict.FAILED, str(error), "root's, executable, not writable by others")
        else:
            yield Check(f"hook {name}", Verdict.OK, str(path))


def ok(checks: list[Check]) -> bool:
    """True when nothing failed."""
    return all(check.verdict is not Verdict.FAILED for check in checks)


def _some_ifindex(machine: Machine) -> int:
    """A link that is not the loopback, where there is one."""
    links = rtnl.read_links(machine)
    if not links:
        raise NotPresentError("no link at all")
    return max(links, key=lambda link: (link.ifname != "lo", bool(link.perm_mac))).ifindex


READS: dict[str, tuple[Callable[[Machine], object], str]] = {
    "read sysfs": (lambda m: m.names("/sys/class/net"), "mount sysfs on /sys"),
    "read procfs": (lambda m: m.read("/proc/interrupts"), "mount procfs on /proc"),
    "read hardware ids": (lambda m: m.read("/sys/class/dmi/id/sys_vendor"), "none: this machine has no such tables"),
    "read serial numbers": (lambda m: m.read("/sys/class/dmi/id/product_uuid"), "run as root, if it has SMBIOS at all"),
    "read rtnetlink": (rtnl.read_links, "allow AF_NETLINK sockets (seccomp, RestrictAddressFamilies)"),
    "read ethtool netlink": (lambda m: ethtool.read_channels(m, _some_ifindex(m)), "Linux 5.10 or newer gives more"),
    "read netdev netlink": (lambda m: netdev.read_queues(m, _some_ifindex(m)), "Linux 6.8 maps queues exactly"),
    "hear LLDP": (lambda m: m.lldp_frames([]), "run as root (CAP_NET_RAW), with AF_PACKET sockets; or run lldpd"),
    "read irq files": (lambda m: m.names("/proc/irq"), "mount procfs on /proc"),
}  # fmt: skip


def _read(name: str, read: Callable[[Machine], object], machine: Machine, remedy: str) -> Check:
    try:
        read(machine)
    except NotPresentError as error:
        return Check(name, Verdict.ABSENT, str(error), remedy)
    except DeniedError as error:
        return Check(name, Verdict.FAILED if os.geteuid() == 0 else Verdict.ABSENT, str(error), remedy)
    except MachineError as error:
        return Check(name, Verdict.FAILED, str(error), remedy)
    return Check(name, Verdict.OK, "")


def collectors() -> Iterator[Check]:
    """A line for each collector that needs to read what is there and may not be read."""
    for collector in ALL:
        paths = [path for pattern in collector.ABOUT.needs for path in glob.glob(pattern)]  # noqa: PTH207 - absolute
        if denied := [path for path in paths if not os.access(path, os.R_OK)]:
            more = f" and {len(denied) - 1} more" if len(denied) > 1 else ""
            text = f"may not read {denied[0]}{more}"
            yield Check(f"collector {collector.NAME}", Verdict.ABSENT, text, f"needs {collector.ABOUT.privileges}")


def _capability(name: str, number: int) -> Check:
    fields = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    if int(fields.get("CapEff", "0"), 16) >> number & 1:
        return Check(name, Verdict.OK, "")
    return Check(name, Verdict.ABSENT, "no CAP_NET_ADMIN: only observing is possible", "run as root to apply policies")


def _irq_writable() -> Check:
    """By the rights of the file system and the mount: nothing is written."""
    name = "write irq files"
    path = Path("/proc/irq/default_smp_affinity")
    if not path.exists():
        return Check(name, Verdict.ABSENT, f"no {path}", "none: this kernel has no affinity")
    if os.access(path, os.W_OK):
        return Check(name, Verdict.OK, "")
    return Check(name, Verdict.ABSENT, f"{path} is read-only here", "run as root, and with a writable /proc")


def _state(state: Path) -> Check:
    name = "state directory"
    nearest = next(path for path in (state, *state.parents) if path.exists())
    if os.access(nearest, os.W_OK | os.X_OK):
        return Check(name, Verdict.OK, str(state))
    return Check(name, Verdict.FAILED, f"{state} cannot be written", "set state_dir, or run as its owner")


def _broker(config: Config) -> Check:
    """TCP and a whole CONNECT."""
    import time  # noqa: PLC0415

    from agent.link import Down, Link, Up  # noqa: PLC0415 - paho is the largest import

    name = "reach the broker"
    where = f"{config.broker.host}:{config.broker.port}"
    start = os.urandom(4).hex()
    link = Link(config.broker, site=config.site, host_id="doctor", start=start, backoff_s=(0.1, 0.1), silent=True)
    end = time.monotonic() + BROKER_S
    reason = "no answer"
    try:
        while time.monotonic() < end:
            for outcome in link.step():
                if isinstance(outcome, Up):
                    return Check(name, Verdict.OK, f"{where}, MQTT {'5' if outcome.protocol == 5 else '3.1.1'}")
                reason = outcome.reason if isinstance(outcome, Down) else reason
            time.sleep(0.02)
    finally:
        link.close()
    return Check(name, Verdict.FAILED, f"{where}: {reason}", "start it, or set broker.host and broker.port")


def _systemd() -> Check:
    if Path("/run/systemd/system").is_dir():
        return Check("systemd", Verdict.OK, "the dead-man is a transient service")
    return Check("systemd", Verdict.ABSENT, "the dead-man is a detached process")


def _irqbalance(machine: Machine) -> Check:
    try:
        machine.irqbalance("setup")
    except MachineError as error:
        return Check("irqbalance", Verdict.ABSENT, str(error))
    return Check("irqbalance", Verdict.OK, "runs; it will be told which interrupts to leave alone")


def _packages() -> Iterator[Check]:
    """Top-level packages named as ours that another distribution installed."""
    from importlib.metadata import packages_distributions  # noqa: PLC0415 - slow, and only here

    found = packages_distributions()
    for name in TOP_LEVEL:
        others = sorted(set(found.get(name, [])) - {"rackhand"})
        if others:
            text = f"package {name!r} also comes from {', '.join(others)}"
            yield Check(
                "packages", Verdict.FAILED, text, f"uninstall {' '.join(others)}, or use an environment of its own"
            )
            return
    yield Check("packages", Verdict.OK, "no other distribution has packages of these names")


def _python() -> Check:
    return Check("python", Verdict.OK, f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}")
