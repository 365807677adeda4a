"""What a collector may take of a core on average; one that takes more runs less often, and it is said."""

SHARE = 0.05  # of one core
MOST = 64  # times its interval
WEIGHT = 0.3  # of the newest run in the average


class Budget:
    """The average CPU time of one collector's runs, and how many times its interval it waits between them."""

    def __init__(self, every_s: float) -> None:
        self._allowed_s = every_s * SHARE
        self._average_s = 0.0
        self.factor = 1

    def took(self, cpu_s: float) -> bool:
        """Count a run; True when that made the collector slower or faster."""
        self._average_s += WEIGHT * (cpu_s - self._average_s)
        before = self.factor
        if self._average_s > self._allowed_s * self.factor:
            self.factor = min(MOST, self.factor * 2)
        elif self.factor > 1 and self._average_s < self._allowed_s * self.factor / 4:
            self.factor //= 2
        return self.factor != before

    @property
    def average_ms(self) -> float:
        """CPU time of a run in milliseconds, on average."""
        return self._average_s * 1000
