"""How a queueing discipline is spelt: kind, handle, options in the kernel's units: "fq 8001: limit=10000".

"0:" is the handle of the kernel's own default, which comes back when the root is deleted. Words are tc's.
"""

from collections.abc import Mapping

from wire.cpulist import parse_cpulist

DEFAULT = "0:"
MULTI = ("mq", "mqprio")  # kinds with a class per transmit queue


def spell(kind: str, handle: str = "", options: Mapping[str, str] | None = None) -> str:
    """The text of a discipline; without a handle any will do."""
    return " ".join([kind, *([handle] if handle else []), *(f"{k}={v}" for k, v in (options or {}).items())])


def parse(text: str) -> tuple[str, str, dict[str, str]]:
    """Kind, handle ("" for any) and options of a discipline's text; all empty for ""."""
    words = text.split()
    handle = words[1] if len(words) > 1 and words[1].endswith(":") else ""
    options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    return words[0] if words else "", handle, options


def stands(now: str, wanted: str) -> bool:
    """True when the discipline `now` has all that `wanted` says; one like a default does for the default.

    A default's options are the kernel's own: they follow from the MTU at the time. Of several queues that differ in
    their disciplines, " | " between them, each has to stand.
    """
    if " | " in now:
        return all(stands(each, wanted) for each in now.split(" | "))
    kind, handle, options = parse(now)
    want_kind, want_handle, want_options = parse(wanted)
    if kind == want_kind and want_handle == handle == DEFAULT:
        return True
    return kind == want_kind and want_handle in ("", DEFAULT, handle) and options.items() >= want_options.items()


def of_queues(leaves: Mapping[int, str], queues: str) -> str:
    """The discipline of the queues in a list such as "0-3", " | " between those that differ."""
    return " | ".join(dict.fromkeys(leaves.get(queue, "") for queue in parse_cpulist(queues)))


def codel_us(wanted: int) -> int:
    """Microseconds that CoDel makes of `wanted`: it counts in units of 1024 ns, so that 5000 reads back as 4999."""
    return (wanted * 1000 >> 10 << 10) // 1000
