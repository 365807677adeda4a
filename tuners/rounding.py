"""What drivers make of a number: a value they rounded is not drift, and is not written again."""

from collections.abc import Callable

from wire.policy import Value

Round = Callable[[int], int]


def power_up(number: int) -> int:
    """The power of two at or above `number` (1 and more)."""
    return 1 << (number - 1).bit_length()


def _power_down(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def _up(step: int) -> Round:
    return lambda number: -(-number // step) * step


def _down(step: int) -> Round:
    return lambda number: number // step * step


# Ring sizes: Intel's small parts take multiples of 8, the large ones of 32, mlx5 keeps the logarithm, ena rounds down.
RINGS: dict[str, tuple[Round, ...]] = {
    **dict.fromkeys(("e1000e", "igb", "igbvf", "igc", "ixgbe", "ixgbevf"), (_up(8),)),
    **dict.fromkeys(("i40e", "iavf", "ice", "idpf"), (_up(32),)),
    **dict.fromkeys(("mlx4_en", "mlx4_core", "mlx5_core"), (power_up,)),
    "ena": (_power_down,),
}
UNKNOWN_RINGS: tuple[Round, ...] = (_up(8), _up(32), power_up)

# Microseconds: timers tick in steps of 2 or 4 (ice, i40e, igb), or in powers of two; frames in powers of two.
COALESCE: tuple[Round, ...] = (_down(2), _up(2), _down(4), _up(4), power_up)


def ring_stands(driver: str, current: int, wanted: int) -> bool:
    """True when `current` is what the driver makes of `wanted` descriptors."""
    return current == wanted or any(current == made(wanted) for made in RINGS.get(driver, UNKNOWN_RINGS))


def coalesce_stands(current: int, wanted: int) -> bool:
    """True when `current` is what a driver makes of `wanted` µs or frames; 0 (off) is only ever 0."""
    if not current or not wanted:
        return current == wanted
    return current == wanted or any(current == made(wanted) for made in COALESCE)


def stands(message: str, driver: str | None, now: Value, wanted: Value) -> bool:
    """True when `now` is what a driver makes of `wanted` in that request; without a driver only the very same is."""
    if now == wanted or driver is None or not isinstance(now, int) or not isinstance(wanted, int):
        return now == wanted
    if message == "rings":
        return ring_stands(driver, now, wanted)
    return message == "coalesce" and coalesce_stands(now, wanted)
