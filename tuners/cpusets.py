"""What the words for CPU sets mean on a host, and texts that list several things with a value each."""

import re
from collections.abc import Callable, Mapping

from tuners import topology
from tuners.hostfacts import HostFacts
from tuners.irq_affinity import pinned
from wire.cpulist import format_cpulist, parse_cpulist
from wire.facts import Numa

WORDS = ("irq", "rest", "all")
CPUS = 'CPUs: "irq" (that NICs\' interrupts are pinned to), "rest" (the other housekeeping ones), "all", or a list'


def irq_cpus(facts: HostFacts) -> set[int]:
    """The online CPUs that an interrupt of a NIC's queue is pinned to; one that may move has no CPU of its own."""
    queues = (queue for fact in facts.irq.values() for queue in fact.queues if queue.rx or queue.tx)
    return {cpu for queue in queues if (cpu := pinned(queue)) is not None} & topology.online(facts)


def members(text: str, facts: HostFacts) -> set[int]:
    """The online CPUs that a word or a list means."""
    if text == "irq":
        return irq_cpus(facts)
    if text == "rest":
        return topology.housekeeping(facts) - irq_cpus(facts)
    return topology.online(facts) & (topology.online(facts) if text == "all" else set(topology.cpu_ids(text)))


def why_none(text: str) -> str:
    """Why a word or a list means no CPU."""
    words = {
        "irq": "no interrupt is pinned to a CPU: irq_affinity does that",
        "rest": "interrupts are pinned to every housekeeping CPU: fewer channels, or a list for irq_affinity",
    }
    return words.get(text, f"none of the CPUs {text} is online")


def cpus_problem(text: str) -> str:
    """Why a text names no CPUs; "" when it does."""
    return "" if text in WORDS or _is_list(text) else f'must be {CPUS}, not "{text[:40]}"'


def nodes_problem(text: str) -> str:
    """Why a text is no list of memory nodes; "" when it is one."""
    return "" if _is_list(text) else f'must be a list of nodes such as 0-1, not "{text[:40]}"'


def _is_list(text: str) -> bool:
    try:
        return bool(parse_cpulist(text))
    except ValueError:
        return False


def pairs(text: str) -> dict[str, str]:
    """`a=1 b=2`: name -> value; what has no `=` is left out."""
    return {name: value for word in text.split() for name, mark, value in [word.partition("=")] if mark}


def pairs_problem(name: re.Pattern[str], example: str, value: Callable[[str], str]) -> Callable[[str], str]:
    """A check of such a text: names that match, each once, with values that `value` has nothing against."""

    def check(text: str) -> str:
        words = text.split()
        found = pairs(text)
        if not words or len(found) != len(words):
            return f'must be NAME=VALUE with spaces between, each name once, as in "{example}", not "{text[:40]}"'
        wrong = next((one for one in found if not name.fullmatch(one)), None)
        if wrong is not None:
            return f'"{wrong[:40]}" is no name as in "{example}"'
        return next((f"of {one} {why}" for one, what in found.items() if (why := value(what))), "")

    return check


def moved(table: Mapping[str, str], value: str, cpu: int) -> dict[str, str]:
    """A table of value -> CPU list with one CPU moved to `value`."""
    sets = {name: set(topology.cpu_ids(cpus)) - {cpu} for name, cpus in table.items()}
    sets.setdefault(value, set()).add(cpu)
    kept = {name: cpus for name, cpus in sets.items() if cpus}
    return {name: format_cpulist(kept[name]) for name in sorted(kept, key=lambda name: min(kept[name]))}


def by_cpu(table: Mapping[str, str]) -> dict[int, str]:
    """The value of each CPU of a table of value -> CPU list."""
    return dict(sorted((cpu, value) for value, cpus in table.items() for cpu in topology.cpu_ids(cpus)))


def memory_nodes(facts: HostFacts) -> set[int]:
    """The nodes that have memory."""
    return {fact.node for fact in facts.of(Numa) if fact.memory_kb}
