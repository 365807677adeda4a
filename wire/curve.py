"""A fan's curve as text, "40:30 60:60 80:100": °C and per cent of full speed."""

import itertools
import math

FULL = 255  # hwmon's pwmN
HOTTEST_C = 110.0

Points = list[tuple[float, float]]


class CurveError(ValueError):
    """The text is no curve; the message says what is wrong."""


def parse_curve(text: str) -> Points:
    """Points (°C, %), temperatures ascending, speeds never descending, the last at 100 %; raises CurveError."""
    try:
        points = [(float(celsius), float(percent)) for celsius, percent in (part.split(":") for part in text.split())]
    except ValueError:
        points = [(math.nan, math.nan)]
    if any(not math.isfinite(number) for point in points for number in point):
        raise CurveError("must be points of °C:%, such as 40:30 60:60 80:100")
    if not points or points[-1][1] != 100:
        raise CurveError("the last point must be at 100 %")
    if any(one[0] >= two[0] or one[1] > two[1] for one, two in itertools.pairwise(points)):
        raise CurveError("temperatures must ascend, and speeds must not descend")
    if not (points[0][0] >= 0 and points[0][1] >= 0 and points[-1][0] <= HOTTEST_C):
        raise CurveError(f"temperatures must be 0 to {HOTTEST_C:g} °C, speeds 0 to 100 %")
    return points


def duty(points: Points, celsius: float) -> int:
    """The PWM value (0 to 255) at a temperature: straight between the points, level outside of them."""
    below = [point for point in points if point[0] <= celsius]
    above = [point for point in points if point[0] > celsius]
    if not below or not above:
        percent = above[0][1] if above else points[-1][1]
    else:
        (low_c, low), (high_c, high) = below[-1], above[0]
        percent = low + (high - low) * (celsius - low_c) / (high_c - low_c)
    return round(FULL * percent / 100)
