"""The verb `diagnose`: a command to one host, and its answer."""

import getpass
import os
import time

import msgspec

from hwdb import store, store_command
from hwdb.cli.ask import confirm
from hwdb.cli.failure import Exit, Failure
from hwdb.cli.output import Format, clean, columns, emit
from hwdb.db import open_engine, reading, writing
from hwdb.store_command import Answer, CommandEntry, Diagnosis

POLL_S = 0.2
SEND_S = 10.0  # a running `up` looks once a second
ANSWER_S = {"identify": 90.0, "cable-test": 60.0, "self-test": 220.0, "module": 60.0}


class AnswerLine(msgspec.Struct):
    """What came of it."""

    id: str
    hostname: str
    nic: str
    test: str
    ok: bool
    text: str


ANSWER = columns(
    AnswerLine,
    [
        ("host", lambda line: line.hostname),
        ("NIC", lambda line: line.nic),
        ("test", lambda line: line.test),
        ("ok", lambda line: line.ok),
        ("result", lambda line: line.text),
    ],
    [("id", lambda line: line.id)],
)


def diagnose(
    url: str, host: str, nic: str, test: Diagnosis, form: Format, *, seconds: int = 10, offline: bool = False, yes: bool
) -> None:
    """Ask, wait, and print what the host says; raises Failure when it did not work or nobody answered."""
    with reading(url) as conn:
        entry = store.entry(conn, store.resolve(conn, host))
        key, ifname = _nic(store.nics(conn, entry.host_id), nic)
    if not entry.online:
        raise Failure(Exit.NO_REPORT, f"{entry.hostname} is offline")
    if test is Diagnosis.CABLE_TEST or (test is Diagnosis.SELF_TEST and offline):
        confirm(f"The link of {ifname} on {entry.hostname} goes down for it. Go on?", yes=yes)
    args = {"test": test.value, "nic": key}
    args |= {"seconds": str(seconds)} if test is Diagnosis.IDENTIFY else {}
    args |= {"offline": "true"} if test is Diagnosis.SELF_TEST and offline else {}
    command = CommandEntry(
        id=f"diagnose-{time.time_ns():x}{os.urandom(2).hex()}",
        host_id=entry.host_id,
        verb="diagnose",
        args=args,
        asked_by=getpass.getuser(),
        asked_ms=time.time_ns() // 1_000_000,
    )
    _put(url, command)
    told = _wait(url, command, ANSWER_S[test] + seconds)
    _show(AnswerLine(command.id, entry.hostname, ifname, test.value, told.ok, told.text), form)


def _nic(known: list[store.NicEntry], name: str) -> tuple[str, str]:
    """Key and name of the NIC; raises Failure that says which there are."""
    nics = [one.nic for one in known if one.nic.type == "physical"]
    for nic in nics:
        if name in (nic.key, nic.ifname, nic.mac, nic.address):
            return nic.key, nic.ifname
    raise Failure(Exit.NOT_FOUND, f"no physical NIC {name!r}; there are: {', '.join(nic.ifname for nic in nics)}")


def _put(url: str, command: CommandEntry) -> None:
    engine = open_engine(url)
    try:
        with writing(engine) as conn:
            store_command.put_command(conn, command)
    finally:
        engine.dispose()


def _wait(url: str, command: CommandEntry, answer_s: float) -> Answer:
    began, sent = time.monotonic(), False
    while True:
        with reading(url) as conn:
            told = store_command.answer(conn, command.id, command.host_id)
            sent = sent or store_command.sent_ms(conn, command.id) > 0
        if told is not None:
            return told
        waited = time.monotonic() - began
        if not sent and waited > SEND_S:
            raise Failure(Exit.NO_REPORT, "nobody sent it: is `rackhand up` running on this database?")
        if waited > SEND_S + answer_s:
            raise Failure(Exit.NO_REPORT, f"no answer within {SEND_S + answer_s:g} s")
        time.sleep(POLL_S)


def _show(line: AnswerLine, form: Format) -> None:
    if form is Format.TABLE:
        print("\n".join(clean(part) for part in line.text.splitlines()) if line.ok else "", end="\n" * line.ok)
    else:
        emit([line], ANSWER, form)
    if not line.ok:
        raise Failure(Exit.FAILED, "; ".join(line.text.splitlines()) or "it failed")
