"""Dumps of real modules with their layouts, and a machine whose NICs hold them."""

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from collectors.transceiver.image import A0, LOWER, Blocks, Image, Place, arrange, read_layout
from machine import Reply, failure, nla
from machine.live import Live

ROOT = Path(__file__).resolve().parents[2]
EIO, ENODEV, ENXIO, EOPNOTSUPP = 5, 19, 6, 95


def folder() -> Path:
    """Where the modules lie: RACKHAND_SFP_DATA, else sfp/ of the captures of real hardware."""
    data = Path(os.environ.get("RACKHAND_DATA", ROOT.parent / "shared" / "data"))
    return Path(os.environ.get("RACKHAND_SFP_DATA", data / "sfp"))


def dumps() -> list[Path]:
    """Every dump that has its layout beside it, whatever the folder calls its families."""
    return sorted(path for path in folder().rglob("*.bin") if path.with_suffix(".json").is_file())


def load(path: Path) -> tuple[Image, str]:
    """The image of a dump, and the standard that its layout names."""
    layout = read_layout(path.with_suffix(".json").read_bytes())
    return arrange(path.read_bytes(), layout), layout.family


def link(ifindex: int, name: str, mac: bytes, *, up: bool = True) -> Reply:
    """An RTM_NEWLINK of one NIC."""
    header = struct.pack("=BxHiII", 0, 1, ifindex, 0x1043 if up else 0x1002, 0)
    return Reply(16, header + nla.text(3, name) + nla.attr(1, mac) + nla.attr(54, mac))


class Rack:
    """A machine with one NIC per module: what a driver would answer, and which runs it was asked for."""

    def __init__(self, root: Path, cages: Mapping[str, Image | int], *, netlink: bool = True) -> None:
        self.live = Live(str(root))
        self.cages = dict(cages)
        self.netlink = netlink
        self.up: set[str] = set(cages)
        self.asked: list[tuple[str, int, int, int, int, int]] = []  # name, address, bank, page, offset, length
        self.fails: dict[tuple[str, int], int] = {}  # name and page -> errno
        self.later: dict[tuple[str, int], tuple[int, Image]] = {}  # name and page -> after so many reads another module
        self.names_of = dict(enumerate(self.cages, 1))
        for name in self.cages:
            device = root / "sys/devices/pci0000:00" / f"0000:00:{len(name):02x}.0" / name
            device.mkdir(parents=True, exist_ok=True)
            net = root / "sys/class/net" / name
            net.mkdir(parents=True, exist_ok=True)
            (net / "device").symlink_to(f"/{device.relative_to(root)}")  # the machine's root is this folder
            (net / "carrier_changes").write_text("1")
        self.root = root

    def __getattr__(self, name: str) -> object:
        return getattr(self.live, name)

    def rtnl(self, _kind: int, _payload: bytes, **_: bool) -> list[Reply]:
        found = [(at, name) for at, name in self.names_of.items() if name in self.cages]
        return [link(at, name, bytes((2, 0, 0, 0, 0, at)), up=name in self.up) for at, name in found]

    def genl(self, _family: str, _command: int, payload: bytes, **_: bool) -> list[Reply]:
        asked = nla.table(payload)
        name = self.names_of[nla.number(nla.table(asked[1])[1])]
        offset, length, page, bank, address = (nla.number(asked[kind]) for kind in (2, 3, 4, 5, 6))
        if not self.netlink:
            raise failure(EOPNOTSUPP, "ethtool request 31")
        assert offset // 128 == (offset + length - 1) // 128, "a read crosses the middle"
        assert page == 0 or offset >= 128
        assert offset % 8 == length % 8 == 0
        data = self.answer(name, (address, bank, page if offset >= 128 else LOWER), offset % 128, length)
        return [Reply(32, nla.attr(7, data))]

    def answer(self, name: str, place: Place, offset: int, length: int) -> bytes:
        self.asked.append((name, *place, offset, length))
        image = self.cages[name]
        if isinstance(image, int):
            raise failure(image, "ethtool request 31")
        error = self.fails.get((name, place[2]))
        if error:
            raise failure(error, "ethtool request 31")
        left, other = self.later.get((name, place[2]), (0, image))
        if left:
            self.later[name, place[2]] = (left - 1, other)
        block = self.block((image if left else other).blocks, place)
        return block[offset : offset + length].ljust(length, b"\0")

    def block(self, blocks: Blocks, place: Place) -> bytes:
        if place in blocks:
            return blocks[place]
        if place[0] != A0:
            raise failure(ENXIO, "ethtool request 31")
        return blocks.get((A0, 0, 0), b"")  # as modules do: a page that is not there is page 00h

    def ethtool_ioctl(self, ifname: str, request: bytes, _size: int) -> bytes:
        if self.netlink:
            raise failure(EOPNOTSUPP, f"{ifname}: ethtool ioctl")
        image = self.cages[ifname]
        if isinstance(image, int):
            raise failure(image, f"{ifname}: ethtool ioctl")
        flat = b"".join(self.flat(image.blocks))
        (command,) = struct.unpack_from("=I", request)
        if command == 0x42:
            kind = 2 if (0x51, 0, LOWER) in image.blocks else 3
            return struct.pack("=III8I", command, kind, len(flat), *[0] * 8)
        _, _, offset, length = struct.unpack_from("=IIII", request)
        self.asked.append((ifname, 0, 0, 0, offset, length))
        return request[:16] + flat[offset : offset + length]

    def flat(self, blocks: Blocks) -> Iterator[bytes]:
        places = [(A0, 0, LOWER), (A0, 0, 0)]
        if (0x51, 0, LOWER) in blocks:
            places += [(0x51, 0, LOWER), (0x51, 0, 0)]
        else:
            places += [(A0, 0, page) for page in (1, 2, 3)]
        for place in places:
            yield blocks.get(place, b"").ljust(128, b"\0")
