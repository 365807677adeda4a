"""What each blast class can break, and what a change of it needs before, while and after it is made.

Whatever the class: a plan, a journal on disk, a dead-man, reading back, and the probes at the end.
"""

from typing import NamedTuple

from wire.policy import Blast


class Needs(NamedTuple):
    """What a change of one class needs beyond what every change has."""

    breaks: str  # the worst that can happen, for people
    alone: bool = False  # one NIC and one leg of a bond at a time; the next when this one is as good as before
    probes: bool = False  # what worked before has to work before anything else is touched
    allowance: bool = False  # the policy's word where the management path or the last healthy leg of a bond is at stake
    leg_instead: bool = False  # on the management path another healthy leg of the same bond does instead of that word
    boots: bool = False  # nothing here boots a machine: the outcome says that it takes effect with the next boot


NEEDS: dict[Blast, Needs] = {
    Blast.SAFE: Needs("costs locality at most"),
    Blast.LINK: Needs("the link may drop", alone=True, probes=True, allowance=True, leg_instead=True),
    Blast.BLACKHOLE: Needs("traffic may vanish silently", alone=True, probes=True, allowance=True),
    Blast.STARVATION: Needs("CPUs or memory may run short", probes=True),
    Blast.REBOOT: Needs("nothing before the next boot", boots=True),
}
NEXT_BOOT = "takes effect with the next boot, which is left to you"


def careful(blast: Blast) -> bool:
    """Whether something has to be looked at between a change of this class and the next."""
    return NEEDS[blast].alone or NEEDS[blast].probes


def requires(blast: Blast) -> str:
    """What it needs, in a few words, for people."""
    needs = NEEDS[blast]
    words = {
        "dead-man": True,
        "one NIC at a time": needs.alone,
        "probes": needs.probes,
        f"allow: [{blast.value}] on the management path" + " or a second healthy leg" * needs.leg_instead: (
            needs.allowance
        ),
        "a reboot by you": needs.boots,
    }
    return ", ".join(word for word, is_needed in words.items() if is_needed)
