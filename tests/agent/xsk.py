"""An AF_XDP socket per queue of a NIC, in the map of our programs: `xsk.py IFNAME QUEUES` prints what one took."""

import ctypes
import mmap
import os
import select
import socket
import struct
import sys
from pathlib import Path

from machine import bpf

AF_XDP, SOL_XDP = 44, 283
OFFSETS, RX_RING, UMEM, FILL, COMPLETION = 1, 2, 4, 5, 6
FILL_AT = 0x100000000
FRAME, FRAMES = 2048, 64


def open_socket(ifindex: int, queue: int) -> tuple[socket.socket, mmap.mmap]:
    """A socket with buffers that packets may be put into; the memory of those."""
    made = socket.socket(AF_XDP, socket.SOCK_RAW, 0)
    memory = mmap.mmap(-1, FRAME * FRAMES)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    made.setsockopt(SOL_XDP, UMEM, struct.pack("=QQIII4x", start, FRAME * FRAMES, FRAME, 0, 0))
    for ring in (FILL, COMPLETION, RX_RING):
        made.setsockopt(SOL_XDP, ring, struct.pack("=I", FRAMES))
    offsets = struct.unpack("=16Q", made.getsockopt(SOL_XDP, OFFSETS, 128))
    producer, _, entries, _ = offsets[8:12]  # of the fill ring; rx and tx come before it
    fill = mmap.mmap(made.fileno(), entries + FRAMES * 8, offset=FILL_AT)
    for at in range(FRAMES):
        struct.pack_into("=Q", fill, entries + 8 * at, at * FRAME)
    struct.pack_into("=I", fill, producer, FRAMES)
    address = struct.pack("=HHIII", AF_XDP, 0, ifindex, queue, 0)
    if ctypes.CDLL(None, use_errno=True).bind(made.fileno(), address, len(address)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return made, memory


def main(ifname: str, queues: int) -> None:
    """Open the sockets, say ready, and print the first packet that comes to one."""
    (path,) = Path("/sys/fs/bpf/rackhand").glob("sockets-*")
    handle = bpf.open_pin(str(path))
    pairs = [open_socket(socket.if_nametoindex(ifname), queue) for queue in range(queues)]
    for queue, (made, _) in enumerate(pairs):
        bpf.update(handle, struct.pack("=I", queue), struct.pack("=I", made.fileno()))
    print("ready", flush=True)
    ready, _, _ = select.select([made for made, _ in pairs], [], [], 60)
    memory = next(memory for made, memory in pairs if made in ready)
    print(bytes(memory).hex(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
