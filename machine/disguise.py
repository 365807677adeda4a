"""Stand-ins for what names a machine: equal in, equal out, of the same length and shape, not to be turned back.

A salt that is thrown away keeps the 24 bits of a MAC from being guessed.
"""

import hashlib
import socket
import string

_LETTERS = (string.digits, string.ascii_lowercase, string.ascii_uppercase)
_HEX_LETTERS = (string.digits, "abcdef", "ABCDEF")
_OCTETS = ((1, 9), (10, 99), (100, 254))
_PAIRS = ((0x1, 0xF), (0x10, 0xFF), (0x100, 0xFFF), (0x1000, 0xFFFF))


class Disguise:
    """The stand-ins of one salt."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def mac(self, mac: bytes) -> bytes:
        """Keeps the vendor (three bytes); all zeros and all ones stay."""
        if not mac.strip(b"\0") or not mac.strip(b"\xff"):
            return mac
        return mac[:3] + self._digest(b"mac", mac)[: len(mac) - 3]

    def word(self, word: str) -> str:
        """Another letter for every letter, another digit for every digit; hex digits stay such, all else stays."""
        digest = self._digest(b"word", word.lower().encode())
        alphabets = _HEX_LETTERS if set(word) <= set(string.hexdigits + "-:") else _LETTERS
        return "".join(_letter(letter, digest[at % len(digest)], alphabets) for at, letter in enumerate(word))

    def ipv4(self, packed: bytes) -> bytes:
        """Equal networks stay equal, an octet keeps its count of digits, 0 and 255 stay; loopback and multicast too."""
        if packed[0] in (0, 127) or packed[0] >= 224:
            return packed
        return bytes(self._octet(packed[:at], octet) for at, octet in enumerate(packed))

    def ipv6(self, packed: bytes) -> bytes:
        """Equal networks stay equal, 16 bits keep their count of digits, 0 stays; so do ::1, fe80: and multicast."""
        if not packed[:15].strip(b"\0") or packed[0] == 0xFF:
            return packed
        kept = 2 if packed[:2] == b"\xfe\x80" else 0
        return packed[:kept] + b"".join(self._pair(packed[:at], packed[at : at + 2]) for at in range(kept, 16, 2))

    def ip_text(self, text: str) -> str:
        """The stand-in of an IP address as text; any other text unchanged."""
        family, change = (socket.AF_INET6, self.ipv6) if ":" in text else (socket.AF_INET, self.ipv4)
        try:
            return socket.inet_ntop(family, change(socket.inet_pton(family, text)))
        except OSError:
            return text

    def _octet(self, network: bytes, octet: int) -> int:
        for low, high in _OCTETS:
            if low <= octet <= high:
                choices = [number for number in range(low, high + 1) if network or (number < 224 and number != 127)]
                shuffled = sorted(choices, key=lambda number: self._digest(b"octet" + network, bytes([number])))
                return shuffled[choices.index(octet)]
        return octet

    def _pair(self, network: bytes, pair: bytes) -> bytes:
        value = int.from_bytes(pair, "big")
        for low, high in _PAIRS:
            if low <= value <= high:
                spread = int.from_bytes(self._digest(b"pair" + network, pair)[:4], "big")
                return (low + spread % (high - low + 1)).to_bytes(2, "big")
        return pair

    def _digest(self, kind: bytes, value: bytes) -> bytes:
        return hashlib.sha256(self._salt + kind + b"\0" + value).digest()


def _letter(letter: str, by: int, alphabets: tuple[str, ...]) -> str:
    for alphabet in alphabets:
        if letter in alphabet:
            return alphabet[(alphabet.index(letter) + 1 + by % (len(alphabet) - 1)) % len(alphabet)]
    return letter
