"""Which samples are worth sending: all of every sixth run, of the others what moved beyond its dead-band."""

from collections.abc import Mapping, Sequence

from wire.report import Sample

FULL_EVERY = 6  # runs: what the inventory holds as newest is never older than that


class Moved:
    """The values that were sent last, per collector."""

    def __init__(self, bands: Mapping[str, float]) -> None:
        self._bands = bands  # metric -> how far a value may move unsaid, in its unit; 0 where none is known
        self._runs: dict[str, int] = {}  # since the last that was sent whole
        self._sent: dict[str, dict[tuple[str, str], float]] = {}

    def resend(self) -> None:
        """Send everything with the next runs."""
        self._runs.clear()

    def pick(self, collector: str, samples: Sequence[Sample]) -> tuple[list[Sample], bool]:
        """What to send of a run, and whether that is only a part of it: what moved, and what was not there before."""
        run = self._runs.get(collector, FULL_EVERY)
        if run >= FULL_EVERY:
            self._runs[collector] = 1
            self._sent[collector] = {(sample.metric, sample.key): sample.value for sample in samples}
            return list(samples), False
        self._runs[collector] = run + 1
        sent, bands = self._sent[collector], self._bands
        moved: list[Sample] = []
        for sample in samples:
            name = sample.metric, sample.key
            before = sent.get(name)
            if before is None or abs(sample.value - before) > bands.get(sample.metric, 0.0):
                sent[name] = sample.value
                moved.append(sample)
        return moved, True
