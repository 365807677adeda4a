"""The text of a recorded machine: every call with its reply, readable, one file per machine.

rackhand capture 1
file /sys/class/net/eth0/mtu        operation and arguments, percent-encoded, a space between them
|1500                               text, a line each
file /sys/devices/.../vpd
#8204...                            bytes in hex, where they are no text
rtnl 18 dump 00000000...
:16 0000...                         one netlink reply: its type, its payload in hex
names /sys/class/hwmon
!NotPresentError 2 ...              the call raised this, with that errno
end 4                               how many calls; without this line the file is cut
"""

from urllib.parse import quote, unquote

from machine import BusyError, DeniedError, MachineError, NotPresentError, Reply, UnsupportedError

Call = tuple[str, ...]
Body = bytes | list[Reply] | MachineError
Tape = dict[Call, Body]

FIRST_LINE = "rackhand capture 1"
OPERATIONS = frozenset(
    {
        "file",
        "names",
        "link",
        "path",
        "rtnl",
        "genl",
        "ioctl",
        "hwtstamp",
        "timex",
        "ipmi",
        "lldp",
        "nvme",
        "psutil",
        "irqbalance",
        "xdp",
        "command",
    }
)
_REPLIES = ("rtnl", "genl", "lldp")
_SAFE = "/:,@.{}+=~()*!$&';"
_ERRORS: dict[str, type[MachineError]] = {
    error.__name__: error for error in (MachineError, NotPresentError, UnsupportedError, DeniedError, BusyError)
}


def fresh(error: MachineError) -> MachineError:
    """The same error to raise again, without the traceback of its last journey."""
    again = type(error)(str(error))
    again.code = error.code
    return again


def format_tape(tape: Tape) -> str:
    """The file's text, calls sorted."""
    lines = [FIRST_LINE]
    for call in sorted(tape):
        lines.append(" ".join(quote(part, safe=_SAFE) for part in call))
        lines += _format_body(tape[call])
    return "\n".join([*lines, f"end {len(tape)}", ""])


def _format_body(body: Body) -> list[str]:
    if isinstance(body, MachineError):
        return [f"!{type(body).__name__} {body.code} {' '.join(str(body).split())}"]
    if isinstance(body, list):
        return [f":{reply.kind} {reply.payload.hex()}" for reply in body]
    text = _printable(body)
    return ["#" + body.hex()] if text is None else ["|" + line for line in text.split("\n")]


def _printable(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if all(letter.isprintable() or letter in "\n\t" for letter in text) else None


def parse_tape(text: str) -> Tape:
    """The recorded calls; raises MachineError with the line that is wrong, or when the file is cut."""
    lines = text.split("\n")
    if lines[0].rstrip("\r") != FIRST_LINE:
        raise MachineError(f"not a capture: it starts with {lines[0][:40]!r}, not with {FIRST_LINE!r}")
    tape: Tape = {}
    at = 1
    while at < len(lines) and not lines[at].startswith("end "):
        start = at
        at += 1
        while at < len(lines) and lines[at][:1] in ("|", "#", ":", "!"):
            at += 1
        try:
            call = _parse_call(lines[start])
            tape[call] = _parse_body(call, lines[start + 1 : at])
        except (ValueError, IndexError) as error:
            raise MachineError(f"capture line {start + 1}: {error}") from None
    if at >= len(lines) or lines[at] != f"end {len(tape)}":
        raise MachineError(f"capture is cut or damaged at line {at + 1}: the end line does not match {len(tape)} calls")
    return tape


def _parse_call(line: str) -> Call:
    call = tuple(unquote(part, errors="strict") for part in line.split(" "))
    if call[0] not in OPERATIONS or len(call) < 2:
        raise ValueError(f"no call: {line[:80]!r}")
    return call


def _parse_body(call: Call, lines: list[str]) -> Body:
    marks = {line[0] for line in lines}
    if len(marks) > 1:
        raise ValueError(f"mixed reply of {' '.join(call)[:80]}")
    if "!" in marks:
        return _parse_error(lines[0][1:])
    if call[0] in _REPLIES:
        return [_parse_reply(line) for line in lines]
    if not lines:
        raise ValueError(f"no reply to {' '.join(call)[:80]}")
    if "#" in marks:
        return bytes.fromhex(lines[0][1:])
    if ":" in marks:
        raise ValueError(f"a netlink reply to {' '.join(call)[:80]}")
    return "\n".join(line[1:] for line in lines).encode()


def _parse_reply(line: str) -> Reply:
    kind, _, payload = line[1:].partition(" ")
    if line[0] != ":":
        raise ValueError(f"no netlink reply: {line[:80]!r}")
    return Reply(int(kind), bytes.fromhex(payload))


def _parse_error(line: str) -> MachineError:
    name, code, message = line.split(" ", 2)
    if name not in _ERRORS:
        raise ValueError(f"no error of a machine: {name[:80]!r}")
    error = _ERRORS[name](message)
    error.code = int(code)
    return error
