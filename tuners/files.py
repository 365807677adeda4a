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
}


def holds(op: FileWrite, text: str, *, rounded: bool) -> bool:
    """True when the file's text is the op's `after`; with `rounded`, also what the kernel makes of a number."""
    meaning = _BY_NAME.get(op.path.rpartition("/")[2], chosen)
    try:
        wanted, now = meaning(op.after), meaning(text)
    except ValueError:
        return text == op.after
    return wanted == now or (rounded and isinstance(wanted, int) and wanted > 0 and now == power_up(wanted))
