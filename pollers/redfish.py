"""Redfish: BMCs polled through sushy, in worker processes; their sessions are kept from poll to poll."""

import asyncio
import os

from pollers.bmc import Bmcs
from pollers.bmc_job import Answer
from pollers.target import DeviceError, Polled, Secret, Target

PORT = 443
CONNECT_S = 5.0


async def check(address: str, port: int, deadline_s: float) -> None:
    """Return once a connection was accepted there; raises DeviceError. One that is refused costs no worker."""
    try:
        async with asyncio.timeout(min(CONNECT_S, deadline_s)):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        raise DeviceError(f"{address} port {port}: no answer") from None
    except (OSError, OverflowError, UnicodeError) as error:
        code = error.errno if isinstance(error, OSError) else None
        why = os.strerror(code) if code and code > 0 else "not reachable by that name"
        raise DeviceError(f"{address} port {port}: {why}") from None
    writer.close()


BMCS = Bmcs("pollers.redfish_read", PORT, check)


async def poll(target: Target, secret: Secret) -> Polled:
    """Systems, chassis, managers, sensors, power, new entries of the event log, firmware; raises DeviceError."""
    return await BMCS.poll(target, secret)


async def command(target: Target, secret: Secret, verb: str, argument: str = "") -> Answer:
    """Have the BMC do something (`redfish_command.run`); raises DeviceError."""
    return await BMCS.ask(target, secret, verb, argument)
