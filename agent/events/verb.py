"""`rackhand-agent events`: what happens here, live; one event that did not happen; a recording through the rules."""

import argparse
import contextlib
import os
import select
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from agent import config
from agent.config import Config
from agent.events.hooks import Hooks
from agent.events.pipeline import Pipeline, unlimited
from agent.events.rules import judge
from agent.events.watching import Watching
from agent.schedule import Schedule
from collectors import registry
from machine.live import Live
from wire.facts import Fact
from wire.report import Event, Severity, Status

MAX_FILE = 256 << 20  # bytes of a recording

_EVENT = msgspec.json.Decoder(Event)
_EVENTS = msgspec.json.Decoder(list[Event])


class VerbError(Exception):
    """It could not be done; one line."""


class Told(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event of a replay, and what became of it: "kept", "held" back, "dropped", or "made" of others."""

    verdict: str
    hooks: list[str] = []
    event: Event


def run(options: argparse.Namespace, settings: Config) -> bool:
    """Do what the command line says; false when a hook of a simulated event failed. Raises VerbError."""
    as_json = options.output == "json"
    if options.what == "simulate":
        event = simulated(options.kind, options.key, options.severity, options.text, options.data)
        told = simulate(settings.events, event)
    elif options.what == "replay":
        told = list(replay(settings.events, read(options.file)))
    elif options.follow:
        follow(settings, raw=options.raw, as_json=as_json)
        return True
    else:
        raise VerbError("events: --follow, simulate KIND or replay FILE")
    sys.stdout.write("".join(f"{shown(one, as_json=as_json)}\n" for one in told))
    sys.stdout.flush()
    return options.what == "replay" or not any(one.event.kind == "hook.failed" for one in told)


# -- follow ------------------------------------------------------------------------------------------------------------


def follow(settings: Config, *, raw: bool, as_json: bool) -> None:
    """Write what happens on this machine until interrupted; `raw` before rules and damping. Runs no hook."""
    machine = Live()
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    facts: dict[str, list[Fact]] = {}
    schedule = Schedule(registry.ALL, machine, settings.intervals, lambda: _wake(waker))
    watching = Watching(
        machine,
        settings.state,
        settings.events.watch,
        pipeline=unlimited() if raw else Pipeline(settings.events.rule),
        facts=lambda: facts,
        keep=lambda events: _write(events, as_json=as_json),
        ask=schedule.ask,
    )
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        stack.callback(schedule.close)
        stack.callback(watching.close)
        while True:
            watching.step()
            if ran := schedule.tick():
                watching.compare(ran)
                facts.update((one.name, one.result.facts) for one in ran if one.result.status is Status.OK)
            wait_s = min(schedule.wait_s(), watching.wait_s(), 60.0)
            select.select([woken, *watching.filenos()], [], [], wait_s)
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)


def _wake(waker: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.write(waker, b"\0")


def _write(events: Iterable[Event], *, as_json: bool) -> None:
    for event in events:
        sys.stdout.write((msgspec.json.encode(event).decode() if as_json else line(event)) + "\n")
    sys.stdout.flush()


def line(event: Event) -> str:
    """One line for people: time, severity, kind, text."""
    at = datetime.fromtimestamp(event.at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    return f"{at}Z {event.severity:<8} {event.kind:<18} {event.text}"


# -- simulate ----------------------------------------------------------------------------------------------------------


def simulate(events: config.Events, event: Event) -> list[Told]:
    """Send one through rules and hooks as if it had happened, and wait for the hooks; marked in its data."""
    event.data = {**event.data, "simulated": True}
    hooks = Hooks(Path(events.hooks_dir), events.hook_timeout_s)
    pipeline = Pipeline(events.rule, hooks)
    verdict = judge(events.rule, event)
    told = [Told(verdict="kept" if verdict.keep else "dropped", hooks=list(verdict.hooks), event=event)]
    try:
        pipeline.offer([event], time.monotonic())
        failed = hooks.step()
        while hooks.busy():
            select.select(hooks.filenos(), [], [], hooks.wait_s())
            failed += hooks.step()
    finally:
        pipeline.close()
    return told + [Told(verdict="made", event=one) for one in failed]


def simulated(kind: str, key: str, severity: str, text: str, data: Sequence[str]) -> Event:
    """The event that the command line describes; raises VerbError."""
    family, dot, what = kind.partition(".")
    if not (family and dot and what):
        raise VerbError(f"{kind!r} is no kind of event: it has two words, as link.down")
    pairs = [pair.partition("=") for pair in data]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        raise VerbError(f"--data {wrong[0]!r} is not NAME=VALUE")
    return Event(
        at_ms=time.time_ns() // 1_000_000,
        kind=kind,
        key=key,
        severity=Severity(severity),
        text=text or f"simulated: {kind} {key}".strip(),
        data={name: value for name, _, value in pairs},
    )


# -- replay ------------------------------------------------------------------------------------------------------------


class _Asked:
    """Notes which hooks would have run."""

    def __init__(self) -> None:
        self.hooks: list[str] = []

    def ask(self, hook: str, event: Event) -> None:  # noqa: ARG002
        self.hooks.append(hook)

    def step(self) -> list[Event]:
        return []

    def filenos(self) -> list[int]:
        return []

    def wait_s(self) -> float:
        return float("inf")

    def close(self) -> None:
        pass

    def taken(self) -> list[str]:
        hooks, self.hooks = self.hooks, []
        return hooks


def replay(events: config.Events, recorded: Sequence[Event]) -> Iterator[Told]:
    """What rules and damping would have made of them, on the clock of the recording; nothing is run."""
    asked = _Asked()
    pipeline = Pipeline(events.rule, asked)
    now_s = 0.0
    for event in sorted(recorded, key=lambda one: one.at_ms):
        until_s = event.at_ms / 1000
        yield from _waited(pipeline, asked, now_s, until_s)
        now_s = until_s
        out = pipeline.offer([event], now_s)
        keep = judge(events.rule, event).keep
        yield Told(verdict="kept" if out else "held" if keep else "dropped", hooks=asked.taken(), event=event)
    yield from _waited(pipeline, asked, now_s, float("inf"))


def _waited(pipeline: Pipeline, asked: _Asked, now_s: float, until_s: float) -> Iterator[Told]:
    """What time alone brings up to then."""
    while now_s + (wait_s := pipeline.wait_s(now_s)) < until_s:
        now_s += wait_s + 1e-6  # a sum of floating point numbers may fall short of what it waits for
        for one in pipeline.due(now_s):
            one.at_ms = one.at_ms or round(now_s * 1000)
            yield Told(verdict="made", hooks=asked.taken(), event=one)


def read(file: Path) -> list[Event]:
    """The events of a file, as `decode` takes them; raises VerbError."""
    try:
        if file.stat().st_size > MAX_FILE:
            raise VerbError(f"{file} is over {MAX_FILE >> 20} MiB")
        return decode(file.read_bytes(), str(file))
    except OSError as error:
        raise VerbError(f"{file}: {error.strerror}") from None


def decode(text: bytes, where: str) -> list[Event]:
    """Lines of JSON, or one list, as `--follow -o json` and the inventory's `events -o json` write; VerbError."""
    if text.lstrip()[:1] == b"[":
        found: list[Event] = _decoded(_EVENTS, text, where)
        return found
    return [
        _decoded(_EVENT, row, f"{where}:{number}") for number, row in enumerate(text.splitlines(), 1) if row.strip()
    ]


def _decoded(decoder: "msgspec.json.Decoder[Any]", text: bytes, where: str) -> Any:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VerbError(f"{where}: {error}") from None


def shown(told: Told, *, as_json: bool) -> str:
    """One line: what became of it, its hooks, and the event."""
    if as_json:
        return msgspec.json.encode(told).decode()
    hooks = f" → {', '.join(told.hooks)}" if told.hooks else ""
    return f"{told.verdict:<8} {line(told.event)}{hooks}"
