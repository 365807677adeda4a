"""What sensors have in common, whoever reads them: their limits and the metrics of their units."""

LIMITS = (  # in the order of IPMI's masks and of Get Sensor Thresholds
    *("lower_non_critical", "lower_critical", "lower_non_recoverable"),
    *("upper_non_critical", "upper_critical", "upper_non_recoverable"),
)
METRICS = {"°C": "temp_celsius", "rpm": "fan_rpm", "V": "volts", "A": "amps", "W": "watts", "%": "percent"}


def consistent(limits: dict[str, float]) -> dict[str, float]:
    """Limits in rising order; where they are not, or where all are the same, firmware never set them."""
    values = [limits[name] for name in (*reversed(LIMITS[:3]), *LIMITS[3:]) if name in limits]
    useless = len(values) > 1 and min(values) == max(values)
    return limits if values == sorted(values) and not useless else {}
