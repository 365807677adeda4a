"""IPMI over the network (RMCP+): BMCs polled by pyghmi, in worker processes."""

import asyncio
import socket
from typing import cast

from pollers.bmc import Bmcs
from pollers.bmc_job import Answer
from pollers.target import DeviceError, Polled, Secret, Target

PORT = 623
# RMCP, session-less IPMI 1.5: Get Channel Authentication Capabilities, this channel, administrator, of 2.0. Every BMC
# answers it: one that does not costs no worker.
PROBE = bytes.fromhex("0600ff07 00 00000000 00000000 09 2018c8 81 00 38 8e 04 b5")
TRIES = 4
TRY_S = 1.0


class _Listener(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        """Anything in RMCP's form will do."""
        if not self.heard.done() and data[:1] == PROBE[:1]:
            self.heard.set_result(None)

    def error_received(self, exc: Exception) -> None:
        """ICMP says that nobody is there."""
        if not self.heard.done():
            self.heard.set_exception(exc)


async def check(address: str, port: int, deadline_s: float) -> None:
    """Return once something speaks RMCP there; raises DeviceError."""
    if not 0 < port < 1 << 16:
        raise DeviceError(f"{address} port {port}: not a port number")
    try:
        where = await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_DGRAM)
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            _Listener, remote_addr=cast("tuple[str, int]", where[0][4][:2]), family=where[0][0]
        )
    except (OSError, OverflowError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not an address"
        raise DeviceError(f"{address} port {port}: {why}") from None
    try:
        for _ in range(min(TRIES, max(1, int(deadline_s / TRY_S)))):
            transport.sendto(PROBE)
            if (await asyncio.wait([protocol.heard], timeout=TRY_S))[0]:
                protocol.heard.result()
                return
    except OSError as error:
        raise DeviceError(f"{address} port {port}: no IPMI there: {error.strerror}") from None
    finally:
        transport.close()
    raise DeviceError(f"{address} port {port}: no answer")


BMCS = Bmcs("pollers.ipmi_read", PORT, check)


async def poll(target: Target, secret: Secret) -> Polled:
    """Power, sensors, new entries of the event log, FRUs; raises DeviceError."""
    return await BMCS.poll(target, secret)


async def command(target: Target, secret: Secret, verb: str, argument: str = "") -> Answer:
    """Have the BMC do something (`ipmi_read.VERBS`); raises DeviceError."""
    return await BMCS.ask(target, secret, verb, argument)
