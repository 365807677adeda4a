"""Which rows of one spool are in: a contiguous mark, and spans beyond it. Pure."""

import msgspec

MAX_SPANS = 1000

Spans = list[tuple[int, int]]


class Stream(msgspec.Struct):
    """One spool: everything up to `acked` is in or will never come; `beyond` is what is in above it, as "7-9,12"."""

    host_id: str
    epoch: str
    acked: int = 0
    beyond: str = ""
    gaps: int = 0  # rows that will never come


def accept(stream: Stream, seq: int, floor: int) -> bool:
    """Take row `seq` of a spool that holds nothing below `floor`; False when it is in already.

    A row that would be span number 1,001 is refused as well: it is not acked, so the host sends it again.
    """
    if not stream.beyond and seq == stream.acked + 1:
        stream.acked = seq
        return True
    spans = _raise_to(stream, _parse(stream.beyond), floor - 1)
    fresh = seq > stream.acked and not any(low <= seq <= high for low, high in spans)
    if fresh and len(spans) >= MAX_SPANS and seq != stream.acked + 1:
        fresh = False
    if fresh:
        spans = _join([*spans, (seq, seq)])
    if spans and spans[0][0] == stream.acked + 1:
        stream.acked = spans.pop(0)[1]
    stream.beyond = ",".join(f"{low}-{high}" for low, high in spans)
    return fresh


def _raise_to(stream: Stream, spans: Spans, mark: int) -> Spans:
    """Move the contiguous mark to `mark` where it is lower; what was missing below it is a gap."""
    if mark <= stream.acked:
        return spans
    held = sum(min(high, mark) - low + 1 for low, high in spans if low <= mark)
    stream.gaps += mark - stream.acked - held
    stream.acked = mark
    return [(max(low, mark + 1), high) for low, high in spans if high > mark]


def _join(spans: Spans) -> Spans:
    """Sorted, with neighbours made one."""
    joined: Spans = []
    for low, high in sorted(spans):
        if joined and low == joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined


def _parse(text: str) -> Spans:
    pairs = (span.partition("-") for span in text.split(",") if span)
    return [(int(low), int(high)) for low, _, high in pairs]
