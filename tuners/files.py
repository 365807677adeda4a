"""What the text of a kernel file means, so that two ways to write the same are no difference."""

from collections.abc import Callable

from tuners.rounding import power_up
from wire.cpulist import parse_cpulist, parse_cpumask
from wire.policy import FileWrite


def chosen(text: str) -> str:
    """The word in brackets of a file that shows all its choices ("always [madvise] never"), else the text itself.

    Lists of numbers come back with tabs between them (net.ipv4.tcp_rmem), which mean no more than a space.
    """
    words = [word[1:-1] for word in text.split() if word.startswith("[") and word.endswith("]")]
    return words[0] if words else " ".join(text.split())


_BY_NAME: dict[str, Callable[[str], object]] = {
    "smp_affinity_list": parse_cpulist,
    "rps_cpus": parse_cpumask,
    "xps_cpus": parse_cpumask,
    "rps_flow_cnt": int,
    "rps_sock_flow_entries": int,
    "cpumask": parse_cpumask,
    "cpus_list": parse_cpulist,
}


def _shares(text: str) -> dict[tuple[str, str], int]:
    """(resource, domain) -> share of resctrl's lines `L3:0=7ff;1=7ff`; raises ValueError for what is none."""
    lines = (line.strip().partition(":") for line in text.splitlines() if line.strip())
    pairs = ((name, pair.split("=")) for name, _, domains in lines for pair in domains.split(";") if pair)
    return {(name, domain): int(share, 16) for name, (domain, share) in pairs}


def holds(op: FileWrite, text: str, *, rounded: bool) -> bool:
    """True when the file's text is the op's `after`; with `rounded`, also what the kernel makes of a number."""
    name = op.path.rpartition("/")[2]
    meaning = _BY_NAME.get(name, chosen)
    try:
        if name == "schemata":  # all resources stand in it, a line that is written is one of them
            return _shares(op.after).items() <= _shares(text).items()
        wanted, now = meaning(op.after), meaning(text)
    except ValueError:
        return text == op.after
    return wanted == now or (rounded and isinstance(wanted, int) and wanted > 0 and now == power_up(wanted))
