"""`rackhand-poller`: polls BMCs, PDUs, UPSs, probes and switches, and is the agent of each towards the inventory."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent import notify, statefile
from agent.config import ConfigError
from agent.identity import NAMESPACE, sane_serial
from agent.poller_config import DEFAULT_FILE, PollerConfig, address_of, load
from agent.presence import Place, Presence
from pollers.schedule import Round, Schedule
from pollers.target import Poll, Polled, Protocol, Secret, Target
from wire.facts import Device
from wire.report import Event
from wire.topics import is_id

if TYPE_CHECKING:
    from pollers.traps import Listener

OK, FAILED, USAGE, STATE = 0, 1, 2, 7
FILE = "devices.json"
FED_S = 10.0
CLOSED_AT_ONCE = 64

log = logging.getLogger("rackhand.poller")


class Known(msgspec.Struct):
    """Which host a device of the configuration is; it stays that when its address or serial number changes."""

    host_id: str
    source: str  # "serial" or "address"


def poll_of(protocol: Protocol) -> Poll:
    """The client of a protocol; its libraries are loaded with it."""
    if protocol == "snmp":
        from pollers.snmp import poll  # noqa: PLC0415
    elif protocol == "ipmi":
        from pollers.ipmi import poll  # noqa: PLC0415
    else:
        from pollers.redfish import poll  # noqa: PLC0415
    return poll


def identify(target: Target, polled: Polled | None) -> Known:
    """A host id that is the same after a reinstall: by serial number when the device tells one, else by address."""
    facts = polled.facts if polled else []
    names = ("serial", "system_serial", "product_serial")
    told = [str(getattr(fact, name, "")) for fact in facts if fact.key in ("device", "bmc") for name in names]
    serial = next((found for found in map(sane_serial, told) if found), "")
    what = f"serial/{serial}" if serial else f"{target.address}/{target.port}"
    source = "serial" if serial else "address"
    return Known(str(uuid.uuid5(NAMESPACE, f"device/{target.protocol}/{what}")), source)


class Poller:
    """All devices of one configuration, on one event loop."""

    def __init__(self, config: PollerConfig) -> None:
        self.config = config
        self.presences: dict[str, Presence] = {}
        self._known = _read(config.state / FILE)
        self._place = Place(config.broker, config.replay, config.site, os.urandom(8).hex())
        self._listener: Listener | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        secrets = {target.name: config.secrets.get(target.secret, Secret()) for target in config.device}
        self.devices = {target.name: (target, secrets[target.name]) for target in config.device}
        self.schedule = Schedule(self.devices, lambda target: poll_of(target.protocol), self.ended)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        log.info("polling %d devices, process %s", len(self.devices), self._place.start)
        notify.notify("READY=1")
        tasks = [asyncio.create_task(self.schedule.run()), asyncio.create_task(self._feed())]
        if self.config.traps.listen:
            tasks.append(asyncio.create_task(self._hear()))
        tasks.append(asyncio.create_task(_until(stop)))
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()
        for task in done:
            task.result()  # raises what ended it

    def ended(self, one: Round) -> None:
        """A poll ended: the first one decides which host the device is."""
        name = one.target.name
        presence = self.presences.get(name) or self._enter(one)
        if one.health.state in ("failing", "sick") and one.health.in_a_row == 1:
            log.warning("%s: %s", name, one.health.reason)
        presence.note(one)
        for fact in one.polled.facts if one.polled and self._listener else ():
            if isinstance(fact, Device) and self._listener:
                self._listener.learn(name, fact.engine_id)
        self._turn(name)

    def told(self, name: str, event: Event) -> None:
        """A notification of a device; one that was never polled has no host yet to tell it of."""
        if presence := self.presences.get(name):
            presence.tell(event)
            self._turn(name)

    def _enter(self, one: Round) -> Presence:
        name, loop = one.target.name, asyncio.get_running_loop()
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._unique(identify(one.target, one.polled), one.target)
            _write(self.config.state / FILE, self._known)
        presence = Presence(
            one.target,
            known.host_id,
            {**self.config.labels, **one.target.labels},
            self._place,
            wake=lambda: _soon(loop, self, name),
            ask=lambda: self.schedule.ask(name),
        )
        self.presences[name] = presence
        return presence

    def _unique(self, known: Known, target: Target) -> Known:
        """Two devices with one serial number are told apart by their addresses."""
        taken = {one.host_id for one in self._known.values()}
        return identify(target, None) if known.host_id in taken else known

    def _turn(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
        wait_s = max(0.01, self.presences[name].turn())
        self._timers[name] = asyncio.get_running_loop().call_later(wait_s, self._turn, name)

    def woken(self, name: str) -> None:
        """The broker said something to this device."""
        if name in self.presences and name in self._timers:
            self._turn(name)

    async def _hear(self) -> None:
        from pollers.traps import Listener  # noqa: PLC0415 - pysnmp, where it is used

        self._listener = Listener(self.devices, self.config.traps.per_minute, self.told)
        await self._listener.serve(*address_of(self.config.traps.listen))

    async def _feed(self) -> None:
        while True:
            notify.notify("WATCHDOG=1")
            await asyncio.sleep(min(FED_S, notify.watchdog_s()))

    async def _close(self) -> None:
        notify.notify("STOPPING=1")
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        with ThreadPoolExecutor(CLOSED_AT_ONCE) as pool:  # each may wait for a broker that says nothing
            loop = asyncio.get_running_loop()
            closing = [loop.run_in_executor(pool, presence.close) for presence in self.presences.values()]
            await asyncio.gather(*closing, return_exceptions=True)
        for name in ("pollers.ipmi", "pollers.redfish"):
            if client := sys.modules.get(name):
                client.BMCS.close()


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


def _soon(loop: asyncio.AbstractEventLoop, poller: Poller, name: str) -> None:
    """From a connection's network thread."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(poller.woken, name)


def _read(path: Path) -> dict[str, Known]:
    try:
        known = msgspec.json.decode(path.read_bytes(), type=dict[str, Known])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}; restore it, or remove it and the devices may be new hosts") from None
    if bad := [one.host_id for one in known.values() if not is_id(one.host_id)]:
        raise ConfigError(f"{path}: {bad[0]!r} is not a host id; restore it, or remove it")
    return known


def _write(path: Path, known: dict[str, Known]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        statefile.replace(path, msgspec.json.format(msgspec.json.encode(known), indent=2))
    except OSError as error:
        log.warning("%s: %s; after a restart devices may be new hosts", path, error)


def main(argv: Sequence[str] | None = None) -> int:
    """Poll until told to stop; returns the exit code and prints at most one line on stderr for an error."""
    parser = argparse.ArgumentParser(
        prog="rackhand-poller", description="Poll BMCs and SNMP devices for the inventory."
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_FILE, help=f"TOML file, {DEFAULT_FILE} by default")
    parser.add_argument("--check", action="store_true", help="read the configuration and say whether it can be used")
    parser.add_argument("--verbose", action="store_true", help="log everything")
    options = parser.parse_args(argv)
    level = logging.DEBUG if options.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        config = load(options.config)
        for target in config.device:
            poll_of(target.protocol)  # raises ImportError
        if options.check:
            sys.stdout.write(f"{options.config}: {len(config.device)} devices\n")
            return OK
        asyncio.run(Poller(config).run())
    except ConfigError as error:
        sys.stderr.write(f"rackhand-poller: {error}\n")
        return USAGE
    except ImportError as error:
        sys.stderr.write(f"rackhand-poller: {error.name} is not installed here: pip install 'rackhand[poller]'\n")
        return FAILED
    except OSError as error:
        sys.stderr.write(f"rackhand-poller: {error}\n")
        return STATE
    return OK


if __name__ == "__main__":
    sys.exit(main())
