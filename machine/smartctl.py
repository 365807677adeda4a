"""What smartctl's JSON may tell of a drive in a redacted capture."""

import json
from collections.abc import Callable
from typing import Any

_SERIALS = frozenset({"serial_number", "logical_unit_id", "sas_address", "attached_sas_address"})
_WORLD_WIDE_NAMES = frozenset({"wwn", "eui64", "nguid"})  # {"naa": 5, "oui": 3152, "id": 57982058496}


def public(text: str, stand_in: Callable[[str], str]) -> str:
    """The JSON with serial numbers and world-wide names disguised; what is no JSON is left out whole.

    `stand_in` must keep a text's length.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return json.dumps(_disguised(said, "", stand_in), separators=(",", ":"))


def _disguised(value: Any, name: str, stand_in: Callable[[str], str], *, secret: bool = False) -> Any:
    """One value and what is in it; `secret` numbers change too, but for the maker's part, which is public."""
    if isinstance(value, dict):
        entries: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        inside = name in _WORLD_WIDE_NAMES
        return {key: _disguised(item, key, stand_in, secret=inside) for key, item in entries.items()}
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return [_disguised(item, name, stand_in, secret=secret) for item in items]
    if isinstance(value, str) and (secret or name in _SERIALS | _WORLD_WIDE_NAMES):
        return stand_in(value)
    if isinstance(value, int) and secret and name not in ("naa", "oui"):
        return int(stand_in(str(value)))
    return value
