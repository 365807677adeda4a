"""Whether a change helped: what to measure it by, and what came out."""

import enum

import msgspec


class Objective(enum.StrEnum):
    """What the host is for, as one number per window."""

    THROUGHPUT = "throughput"  # bits per busy CPU second
    LATENCY = "latency"  # 99th percentile of the probe's round trips
    PPS = "pps"  # packets per softirq CPU second
    BALANCED = "balanced"  # busy CPU time per packet


class Keep(enum.StrEnum):
    """Which changes stay."""

    BETTER = "better"  # only what is measured to be better; what could not be measured goes too
    NOT_WORSE = "not_worse"  # all but what is measured to be worse
    ALWAYS = "always"  # all: measured and told


class Verdict(enum.StrEnum):
    """What the windows say."""

    IMPROVED = "improved"  # the objective is better beyond noise, and no guard is worse
    NO_EFFECT = "no_effect"  # within noise
    WORSE = "worse"  # the objective or a guard is worse beyond noise
    UNPROVEN = "unproven"  # too little traffic, or other traffic than before: nothing can be said


class Measure(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How a setting's changes are measured."""

    objective: Objective = Objective.BALANCED
    window_s: int = 30
    windows: int = 3  # before, and as many after
    keep: Keep = Keep.BETTER
    probe: str = ""  # address to ping, or HOST:PORT to connect to; default: the broker


class Effect(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What a change did on one host; `before` and `after` are means of the objective in its own unit."""

    verdict: Verdict
    objective: Objective
    unit: str = ""
    before: float = 0.0
    after: float = 0.0
    gain: float = 0.0  # 0.1: a tenth better than before, whichever way is better
    noise: float = 0.0  # two standard deviations of the windows, as a share like `gain`
    windows: int = 0  # on each side
    packets_per_s: float = 0.0  # while it was measured
    reason: str = ""  # one line: which guard is worse, or why nothing can be said
    changed: str = ""  # "rings rx=1024": what was measured, one or several settings
    place: str = ""  # "igb, Linux 6.12.95, Intel I350, AMD EPYC": where it may be the same again
