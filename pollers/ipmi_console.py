"""Serial over LAN by pyghmi, in the process of whoever sits before it."""

import asyncio
import os
import queue
import threading
from typing import Any

from pollers import ipmi
from pollers.target import DeviceError, Secret, Target
from wire.text import clean

ESCAPE = b"~"
LEAVE, BREAK = b".", b"B"
WAIT_S = 0.05  # between two looks at the keys
LOGIN_S = 30.0
_NEWLINES = (b"\r", b"\n")


class Keys:
    """What is typed, with `~.` and `~B` after a line's end taken out; `~~` is one `~`."""

    def __init__(self) -> None:
        self._fresh = True  # at a line's beginning
        self._escaped = False

    def take(self, typed: bytes) -> tuple[bytes, bytes]:
        """What goes to the other side, and the command in it: "", LEAVE or BREAK."""
        passed = b""
        for at in range(len(typed)):
            key = typed[at : at + 1]
            if self._escaped:
                self._escaped = False
                if key in (LEAVE, BREAK):
                    return passed, key
                passed += key if key == ESCAPE else ESCAPE + key
                self._fresh = key in _NEWLINES
            elif key == ESCAPE and self._fresh:
                self._escaped = True
            else:
                passed += key
                self._fresh = key in _NEWLINES
        return passed, b""


def check(target: Target) -> None:
    """Return when the BMC answers; raises DeviceError."""
    asyncio.run(ipmi.check(target.address, target.port or ipmi.PORT, target.deadline_s))


def run(target: Target, secret: Secret, keys: int, screen: int, *, force: bool = False) -> None:
    """Pass bytes both ways between two file descriptors and the host, until `~.`, the keys' end or the session's;
    raises DeviceError when it cannot be had or breaks."""
    from pyghmi.ipmi import console  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second

    errors: list[str] = []

    def said(data: Any) -> None:
        if isinstance(data, dict):
            errors.append(clean(str(data.get("error", "")), 120))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        else:
            os.write(screen, data if isinstance(data, bytes) else str(data).encode())

    user, password = secret.username.encode(), secret.password.encode()
    try:
        sol: Any = console.Console(target.address, user, password, said, port=target.port or ipmi.PORT, force=force)
        typed = _reader(keys)
        _login(sol, errors)
        _pass_on(sol, typed, errors)
        _end(sol)
    except DeviceError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the library trips over ends the session
        raise DeviceError(f"console: {type(error).__name__}") from None
    if errors and errors[0]:
        raise DeviceError(f"console: {errors[0]}")


def _login(sol: Any, errors: list[str]) -> None:
    for _ in range(int(LOGIN_S / WAIT_S)):
        if sol.connected or errors:
            return
        sol.wait_for_rsp(WAIT_S)
    raise DeviceError(f"console: not within {LOGIN_S:g} s")


def _reader(keys: int) -> "queue.Queue[bytes]":
    """What is typed, as it comes; b"" is the end."""
    typed: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        more = True
        while more:
            try:
                more = bool(said := os.read(keys, 1024))
            except OSError:
                more, said = False, b""
            typed.put(said)

    threading.Thread(target=read, name="keys", daemon=True).start()
    return typed


def _pass_on(sol: Any, typed: "queue.Queue[bytes]", errors: list[str]) -> None:
    keys = Keys()
    while not errors:
        sol.wait_for_rsp(WAIT_S)
        while not typed.empty():
            said = typed.get()
            passed, command = keys.take(said)
            if passed:
                sol.send_data(passed)
            if command == BREAK:
                sol.send_break()
            if command == LEAVE or not said:
                return


def _end(sol: Any) -> None:
    session = sol.ipmi_session
    sol.close()
    if session is not None:
        session.logout()
