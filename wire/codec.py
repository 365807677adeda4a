"""JSON in and out, with limits on size and depth, and item by item where one bad item must not lose the rest."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32

T = TypeVar("T")


class DecodeError(ValueError):
    """The payload is not a message of this protocol; a retry does not help."""


class Rejected(NamedTuple):
    """An item that was kept aside: its raw JSON and the reason."""

    raw: bytes
    reason: str


_encoder = msgspec.json.Encoder()
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def encode(message: Any) -> bytes:
    """The JSON of a struct of this package."""
    return _encoder.encode(message)


def raw(item: Any) -> msgspec.Raw:
    """The JSON of an item as it travels inside a list that is decoded item by item."""
    return msgspec.Raw(_encoder.encode(item))


def too_deep(payload: bytes, max_depth: int = MAX_DEPTH) -> bool:
    """True when JSON nests deeper than `max_depth` (each pass over the bare brackets removes one level)."""
    brackets = _STRING.sub(b"", payload).translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(max_depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def decode(decoder: "msgspec.json.Decoder[T]", payload: bytes, max_bytes: int = MAX_BYTES) -> T:
    """One message of the decoder's type; raises DecodeError with one line that says what is wrong.

    Typed structs bound the depth of all that is kept; what msgspec skips is bounded by its own recursion guard.
    """
    if len(payload) > max_bytes:
        raise DecodeError(f"payload of {len(payload)} bytes is over the limit of {max_bytes}")
    try:
        return decoder.decode(payload)
    except RecursionError:
        raise DecodeError(f"payload is nested over {MAX_DEPTH} deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(str(error)) from None


def decode_items(decoder: "msgspec.json.Decoder[T]", items: Iterable[msgspec.Raw]) -> tuple[list[T], list[Rejected]]:
    """The items of known kinds, and those of unknown kind or shape with the reason: none is lost."""
    known: list[T] = []
    kept: list[Rejected] = []
    for item in items:
        text = bytes(item)
        try:
            known.append(decode(decoder, text))
        except DecodeError as error:
            if too_deep(text):
                kept.append(Rejected(b"null", f"item of {len(text)} bytes is nested over {MAX_DEPTH} deep"))
            else:
                kept.append(Rejected(text, str(error)))
    return known, kept
