"""Configuration in sections, as TuneD, systemd and NetworkManager write it."""

Pairs = list[tuple[str, str]]
MAX_LINES = 10_000


def parse_ini(text: str) -> list[tuple[str, Pairs]]:
    """Sections with their pairs in the order of the text; what is neither is left out. A title may come twice."""
    sections: list[tuple[str, Pairs]] = []
    for raw in text.splitlines()[:MAX_LINES]:
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            sections.append((line[1:-1].strip(), []))
        elif line and line[0] not in "#;" and "=" in line and sections:
            name, _, value = line.partition("=")
            sections[-1][1].append((name.strip(), value.strip()))
    return sections


def section(text: str, title: str) -> dict[str, str]:
    """The pairs of all sections of that title; the last of a name counts."""
    return {name: value for found, pairs in parse_ini(text) if found == title for name, value in pairs}
