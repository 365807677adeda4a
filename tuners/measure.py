"""The measurement gate's arithmetic: counters to windows, windows to a verdict. Pure; nothing is read here.

Every metric is per packet, per CPU second or a ratio, because load drifts between two windows. Noise is the standard
deviation of windows of the same side; what differs by more than two of it is a difference. Of three windows a side,
chance alone passes that in about one case of thirty in the direction that counts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from wire.measure import Effect, Keep, Measure, Objective, Verdict

SIGMAS = 2.0
LEAST_WINDOWS = 3  # of fewer, two standard deviations are anybody's guess
LEAST_PACKETS = 100.0  # a second: below, there is nothing to be said of a host's traffic
OTHER_LOAD = 3.0  # times: with as much more or less traffic than before, per-packet costs do not compare
LEAST_GAIN = 0.005  # windows that happen to be alike are no proof of half a percent
LOST_US = 1e6  # a probe without an answer


class Reading(NamedTuple):
    """Counters since boot at one moment; seconds, packets, times."""

    at_s: float
    packets: int  # received and sent, of the NICs that are measured
    bytes: int
    lost: int  # received and dropped: no buffer, missed, overrun
    busy_s: float  # all CPUs, everything but idle
    softirq_s: Mapping[int, float]  # by CPU
    squeezed: int  # softnet dropped and time_squeeze
    wakeups: int  # NET_RX softirqs: interrupts and what NAPI, RPS and budget made of them
    segments: int  # TCP, sent
    resent: int
    rtts_us: tuple[float, ...] = ()  # probes since the reading before


class Metric(NamedTuple):
    """One number of a window: which way is better, and how much worse a guard may get (share and absolute)."""

    unit: str
    higher: bool = False
    share: float = 0.25
    least: float = 0.0


METRICS: dict[str, Metric] = {
    "bits_per_cpu": Metric("bit per busy CPU second", higher=True),
    "packets_per_softirq": Metric("packets per softirq CPU second", higher=True),
    "cpu_per_packet": Metric("µs of CPU per packet"),
    "rtt": Metric("µs round trip, 99th percentile", share=0.5, least=100.0),
    "lost": Metric("lost per packet", share=0.1, least=1e-5),
    "squeezed": Metric("backlog drops and squeezes per packet", share=0.1, least=1e-5),
    "imbalance": Metric("busiest CPU's softirq time over the mean", least=0.25),
    "wakeups": Metric("receive softirqs per packet", least=0.01),
    "resent": Metric("TCP segments sent again, of those sent", share=0.1, least=1e-3),
}
OF = {
    Objective.THROUGHPUT: "bits_per_cpu",
    Objective.LATENCY: "rtt",
    Objective.PPS: "packets_per_softirq",
    Objective.BALANCED: "cpu_per_packet",
}
_GUARDS = ("rtt", "lost", "squeezed", "imbalance", "wakeups", "resent")
NO_GUARD = {
    Objective.LATENCY: ("wakeups", "imbalance"),  # is bought with interrupts, on the CPUs that serve them
    Objective.THROUGHPUT: ("rtt",),  # moderation is bought with microseconds
    Objective.PPS: ("rtt",),
}


class Window(NamedTuple):
    """One window: packets and bits per second, and those of METRICS that its counters tell."""

    load: float
    bits: float
    values: Mapping[str, float]


def window(first: Reading, last: Reading) -> Window:
    """What happened between two readings; a metric whose denominator stood still is not among its values."""
    packets, busy_s = last.packets - first.packets, last.busy_s - first.busy_s
    softirq = [seconds - first.softirq_s.get(cpu, 0.0) for cpu, seconds in last.softirq_s.items()]
    sent = last.segments - first.segments
    found = {
        "bits_per_cpu": _ratio(8 * (last.bytes - first.bytes), busy_s),
        "packets_per_softirq": _ratio(packets, sum(softirq)),
        "cpu_per_packet": _ratio(1e6 * busy_s, packets),
        "rtt": percentile(last.rtts_us, 0.99),
        "lost": _ratio(last.lost - first.lost, packets),
        "squeezed": _ratio(last.squeezed - first.squeezed, packets),
        "imbalance": _ratio(max(softirq, default=0.0) * len(softirq), sum(softirq)),
        "wakeups": _ratio(last.wakeups - first.wakeups, packets),
        "resent": _ratio(last.resent - first.resent, sent),
    }
    values = {name: value for name, value in found.items() if value is not None}
    seconds = max(last.at_s - first.at_s, 1e-3)
    return Window(packets / seconds, 8 * (last.bytes - first.bytes) / seconds, values)


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 and above >= 0 else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of them do not exceed; None of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


class Difference(NamedTuple):
    """Mean of the later side less that of the earlier, and the standard deviation of a window."""

    mean: float
    sigma: float


def difference(before: Sequence[float], after: Sequence[float], *, interleaved: bool = False) -> Difference:
    """Of two rows of windows, at least three each; interleaved ones (A B A B ...) are freed of drift first."""
    if not interleaved or len(before) != len(after):
        spread = _squares(before) + _squares(after)
        return Difference(mean(after) - mean(before), math.sqrt(spread / (len(before) + len(after) - 2)))
    return _without_drift([value for pair in zip(before, after, strict=True) for value in pair])


def _without_drift(row: Sequence[float]) -> Difference:
    """Least squares of A B A B ... with a slope in time; its noise is given as that of as many plain windows."""
    count = len(row)
    sides = [(at % 2) - 0.5 for at in range(count)]
    times = [at - (count - 1) / 2 for at in range(count)]
    middle = mean(row)
    rest = [value - middle for value in row]
    xx, tt, xt = _dot(sides, sides), _dot(times, times), _dot(sides, times)
    xy, ty = _dot(sides, rest), _dot(times, rest)
    determinant = xx * tt - xt * xt
    step, slope = (xy * tt - ty * xt) / determinant, (ty * xx - xy * xt) / determinant
    left = max(0.0, _dot(rest, rest) - step * xy - slope * ty) / (count - 3)
    return Difference(step, math.sqrt(left * tt / determinant * count / 4))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean, of one value at least."""
    return sum(values) / len(values)


def _squares(values: Sequence[float]) -> float:
    middle = mean(values)
    return sum((value - middle) ** 2 for value in values)


def judge(before: Sequence[Window], after: Sequence[Window], measure: Measure, *, interleaved: bool = False) -> Effect:
    """The verdict over windows before and after a change, with the objective's means and noise."""
    name = OF[measure.objective]
    unit = METRICS[name].unit
    load = mean([each.load for each in (*before, *after)]) if before and after else 0.0
    if why := _unproven(before, after, name):
        return Effect(verdict=Verdict.UNPROVEN, objective=measure.objective, unit=unit, packets_per_s=load, reason=why)
    sides = [_of(name, side) for side in (before, after)]
    gain, sigma = difference(*(_logs(side) for side in sides), interleaved=interleaved)
    gain *= 1 if METRICS[name].higher else -1
    worse = _worse(before, after, measure.objective, interleaved=interleaved)
    return Effect(
        verdict=_verdict(gain, sigma, worse),
        objective=measure.objective,
        unit=unit,
        before=mean(sides[0]),
        after=mean(sides[1]),
        gain=math.expm1(gain),
        noise=math.expm1(SIGMAS * sigma),
        windows=min(len(before), len(after)),
        packets_per_s=load,
        reason="; ".join(worse),
    )


def _verdict(gain: float, sigma: float, worse: Sequence[str]) -> Verdict:
    beyond = max(SIGMAS * sigma, LEAST_GAIN)
    if worse or gain < -beyond:
        return Verdict.WORSE
    return Verdict.IMPROVED if gain > beyond else Verdict.NO_EFFECT


def _unproven(before: Sequence[Window], after: Sequence[Window], name: str) -> str:
    """Why these windows prove nothing; "" when they can."""
    if min(len(before), len(after)) < LEAST_WINDOWS:
        return f"fewer than {LEAST_WINDOWS} windows on a side"
    least = min(each.load for each in (*before, *after))
    if least < LEAST_PACKETS:
        return f"no load: {least:.0f} packets/s, at least {LEAST_PACKETS:.0f} are needed"
    loads = [mean([each.load for each in side]) for side in (before, after)]
    rates = [mean([each.bits for each in side]) for side in (before, after)]
    if all(max(pair) > OTHER_LOAD * min(pair) for pair in (loads, rates)):  # offloads alone change what a packet is
        return f"another load: {loads[0]:.0f} packets/s before, {loads[1]:.0f} after"
    if any(not each.values.get(name) for each in (*before, *after)):
        return f"a window without a measure of {METRICS[name].unit}"
    return ""


def _of(name: str, side: Sequence[Window]) -> list[float]:
    return [each.values[name] for each in side if name in each.values]


def _logs(values: Sequence[float]) -> list[float]:
    return [math.log(value) for value in values]


def _worse(before: Sequence[Window], after: Sequence[Window], of: Objective, *, interleaved: bool) -> list[str]:
    """The guards that got worse beyond noise, and beyond what nobody would notice."""
    found: list[str] = []
    for name in _GUARDS:
        one, other = _of(name, before), _of(name, after)
        if name == OF[of] or name in NO_GUARD.get(of, ()) or len(one) < len(before) or len(other) < len(after):
            continue
        change = difference(one, other, interleaved=interleaved)
        metric = METRICS[name]
        if change.mean > max(SIGMAS * change.sigma, metric.share * mean(one), metric.least):
            found.append(f"{metric.unit}: {mean(one):.3g} before, {mean(other):.3g} after")
    return found


KEPT: dict[Keep, Callable[[Verdict], bool]] = {
    Keep.BETTER: lambda verdict: verdict is Verdict.IMPROVED,
    Keep.NOT_WORSE: lambda verdict: verdict is not Verdict.WORSE,
    Keep.ALWAYS: lambda _verdict: True,
}


def kept(effect: Effect, keep: Keep) -> bool:
    """True when what had this effect stays."""
    return KEPT[keep](effect.verdict)


def told(effect: Effect) -> str:
    """The effect for people, in one line."""
    parts = [f"{effect.changed}: " if effect.changed else "", effect.verdict.replace("_", " ")]
    if effect.windows:
        parts.append(f" by {effect.gain:+.1%} (noise {effect.noise:.1%}, {effect.windows} windows a side)")
        parts.append(f", {effect.unit}: {effect.before:.4g} before, {effect.after:.4g} after")
    return "".join(parts) + (f"; {effect.reason}" if effect.reason else "")
