"""A session with one BMC by pyghmi, in a process of its own: requests as bytes, errors as one line."""

import contextlib
import select
import socket
import time
from collections.abc import Generator
from typing import Any

from pyghmi import exceptions  # type: ignore[import-untyped]
from pyghmi.ipmi.private import simplesession  # type: ignore[import-untyped]

from pollers.bmc_job import Job
from pollers.target import DeviceError
from wire.text import clean

MAX_USER, MAX_PASSWORD = 16, 20  # bytes, IPMI 2.0 chapter 22
_BUSY_S = 0.1
_BUSY, _TIMEOUT = 0xC0, 0xFFFF  # node busy; pyghmi's own
TRIES = 4


class Door(simplesession.Session):  # type: ignore[misc]
    """pyghmi's session without a thread, which sends again what was lost: its simple one waits for ever, and with its
    own one request in a hundred waited for half a second or more."""

    def wait_for_rsp(self, timeout: float | None = None, callout: bool = True) -> None:  # noqa: ARG002
        """Take what comes; when nothing does for long enough, send again or give up."""
        wait_s: float = self.timeout if timeout is None else timeout
        handle: Any = self.socket
        if select.select([handle], [], [], wait_s)[0]:
            self.process_pktqueue()
        elif timeout is None and self.lastpayload:  # pyright: ignore[reportUnknownMemberType]
            self._timedout()

    def awaitresponse(self, retry: bool) -> None:
        """Return with a response, or when the session is broken."""
        while retry and self.lastresponse is None and self.logged:  # pyright: ignore[reportUnknownMemberType]
            self.wait_for_rsp()


class Session:
    """One that is logged in."""

    def __init__(self, door: Any) -> None:
        self.door = door

    def ask(self, netfn: int, number: int, *data: int, lun: int = 0) -> bytes | None:
        """The response's data, None when the BMC does not do that; raises DeviceError when it answers no more."""
        code, said = self.code(netfn, number, *data, lun=lun)
        return said if code == 0 else None

    def code(self, netfn: int, number: int, *data: int, lun: int = 0) -> tuple[int, bytes]:
        """Completion code and data; raises DeviceError when the BMC answers no more."""
        for _ in range(TRIES):
            try:
                response = self.door.raw_command(netfn=netfn, command=number, data=data, rslun=lun)
            except exceptions.PyghmiException as error:
                raise DeviceError(f"stopped answering: {clean(str(error), 120)}") from None
            if response["code"] == _TIMEOUT:
                raise DeviceError("stopped answering")
            if response["code"] != _BUSY:
                return int(response["code"]), bytes(response["data"])
            time.sleep(_BUSY_S)
        return _BUSY, b""


def credentials(job: Job) -> tuple[bytes, bytes]:
    """User name and password as IPMI has them; raises DeviceError for what no BMC takes."""
    user, password = job.username.encode(), job.password.encode()
    if not user or len(user) > MAX_USER or len(password) > MAX_PASSWORD:
        raise DeviceError(f"IPMI takes a user name of 1 to {MAX_USER} bytes and a password of up to {MAX_PASSWORD}")
    return user, password  # as text, pyghmi would hang at the second session


@contextlib.contextmanager
def alone(job: Job) -> Generator[None]:
    """Be the only one of this machine that talks to the BMC; waits for another."""
    name = f"\0rackhand/bmc/{job.address}:{job.port}"
    with socket.socket(socket.AF_UNIX) as mark:
        while True:
            try:
                mark.bind(name)
                break
            except OSError:
                time.sleep(_BUSY_S)  # up to the deadline, at which the kernel ends this process
        yield


@contextlib.contextmanager
def session(job: Job) -> Generator[Session]:
    """Log in, and out at the end; raises DeviceError."""
    user, password = credentials(job)
    with alone(job):
        try:
            door: Any = Door(job.address, user, password, job.port)
        except exceptions.PyghmiException as error:
            said = clean(str(error).partition(" while requesting")[0], 120)  # what follows names the user
            raise DeviceError(f"cannot log in: {'no answer' if said in ('None', 'timeout') else said}") from None
        except OSError as error:
            raise DeviceError(f"cannot log in: {error.strerror}") from None
        try:
            yield Session(door)
        finally:
            with contextlib.suppress(exceptions.PyghmiException):
                door.logout()
