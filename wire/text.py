"""Text from outside, made harmless where it is decoded: a module's, a BMC's, a neighbour's, an SNMP device's."""

MOST = 255  # characters, as most protocols allow of bytes
REPLACED = "\N{REPLACEMENT CHARACTER}"  # in the place of what a terminal or a log would obey


def clean(text: str | bytes, most: int = MOST) -> str:
    """One line of printable characters, at most `most` of them; bytes are taken as UTF-8, up to trailing NULs.

    White space of any kind is one space, none at the ends. Control characters, escapes and direction overrides, which
    are not printable, are replaced.
    """
    said = text.rstrip(b"\0").decode(errors="replace") if isinstance(text, bytes) else text
    line = " ".join(said[: most * 8].split())
    if not line.isprintable():
        line = "".join(letter if letter.isprintable() else REPLACED for letter in line)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
