"""Coverage-guided fuzzing of what reaches the monitors: `python tests/fuzz/events.py -runs=100000 [CORPUS]`.

The first byte chooses: a datagram of one of the groups, lines of a recording through damping, an event for a hook.
"""

import struct
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]
import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["agent.events", "machine", "wire"]):
    from agent import config
    from agent.events import hotplug, verb
    from agent.events.hooks import environment, safe
    from agent.events.pipeline import tidy
    from machine import MachineError
    from machine.asking import parse_speakers
    from machine.monitor import GROUPS, parse
    from machine.uevents import Uevent
    from wire.report import Event

MESSAGES = (16, 17, 20, 21, 24, 25, 40)
RULES = config.Events(rule=[config.Rule(kind="*.[a-m]*", action="drop"), config.Rule(action="hook", hook="x")])


def fuzz_datagram(group: str, datagram: bytes) -> None:
    """Notices, or one error."""
    try:
        notices = parse(group, datagram)
    except MachineError:
        return
    for notice in notices:
        if isinstance(notice.about, Uevent) and hotplug.is_told(notice.about):
            made = tidy(hotplug.event(notice.about, 1, {}))
            assert made.text.isprintable()
            assert made.kind.partition(".")[2]


def fuzz_recording(text: bytes) -> None:
    """Every event that is read is told of once, and what was held back is told at the end."""
    try:
        events = verb.decode(text, "recording")
    except verb.VerbError:
        return
    told = list(verb.replay(RULES, events))
    assert sum(one.verdict != "made" for one in told) == len(events)
    for event in events:
        fuzz_hook(event)


def fuzz_hook(event: Event) -> None:
    """No variable has a character that a shell would not take for text."""
    for name, value in environment(event).items():
        assert name.replace("_", "A").isalnum()
        assert value == safe(value) or name in ("PATH", "LANG")


def one_input(data: bytes) -> None:
    """What atheris calls; an exception is a finding."""
    kind, body = (data[0] if data else 0), data[1:]
    if kind < 0x40:
        fuzz_datagram(GROUPS[kind % len(GROUPS)], body)
    elif kind < 0x80:
        head = struct.pack("=IHHII", 16 + len(body), MESSAGES[kind % len(MESSAGES)], 0, 0, 7)
        fuzz_datagram(GROUPS[kind % len(GROUPS)], head + body)
    elif kind < 0xA0:
        fuzz_datagram("device", b"add@/devices/x\0ACTION=add\0SUBSYSTEM=" + body)
    elif kind < 0xC0:
        fuzz_recording(body)
    elif kind < 0xE0:
        words = body.decode(errors="replace").split(" ")
        rows = [Event(at_ms=len(word) * 977, kind=word, key=word[:2], text=word, data={word: word}) for word in words]
        fuzz_recording(b"\n".join(msgspec.json.encode(row) for row in rows))
    else:
        parse_speakers(body.decode(errors="replace"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
