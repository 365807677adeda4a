"""Trees of disciplines replaced, against a played kernel whose defaults follow from the MTU as those of the real do."""

import struct

import pytest

from machine import MachineError, Reply, UnsupportedError, netlink, nla, qdisc
from machine.live import Live
from machine.netlink import Message
from wire.policy import Request, Values

_HEAD = struct.Struct("=BxxxiIII")
ENOENT = 2


class Kernel(Live):
    """One NIC of two queues; also the channel by which it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.mtu = 1500
        self.unknown = ""  # a kind that this kernel does not have
        self.next = 0x80000000
        self.log: list[str] = []
        self.default()

    def close(self) -> None:
        """A channel of it ends, the kernel goes on."""

    def default(self) -> None:
        self.top: tuple[str, int, bytes] = ("mq", 0, b"")
        self.leaves = [("fq_codel", 0, self.fair()) for _ in range(2)]

    def fair(self) -> bytes:
        return nla.u32(6, self.mtu + 14)

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        assert (kind, dump, len(payload)) == (qdisc.GETQDISC, True, _HEAD.size)
        shown: list[tuple[str, int, bytes, int]] = [(*self.top, qdisc.ROOT)]
        shown += [(*leaf, self.top[1] | queue + 1) for queue, leaf in enumerate(self.leaves)]
        return [
            Reply(36, _HEAD.pack(0, 3, handle, parent, 0) + nla.text(1, kind) + nla.attr(2, options))
            for kind, handle, options, parent in shown
        ]

    def request(self, kind: int, payload: bytes, what: str, *, dump: bool = False, flags: int = 0) -> list[Message]:
        _, ifindex, handle, parent, _ = _HEAD.unpack_from(payload)
        assert (ifindex, dump) == (3, False)
        attributes = nla.table(payload, _HEAD.size)
        name, options = nla.string(attributes.get(1, b"")), attributes.get(2, b"")
        self.log.append(f"{'put' if flags else 'del'} {name} {parent:x}")
        if kind == qdisc.DELQDISC:
            assert self.top[1], "the kernel's own cannot be deleted"
            self.default()
        elif name == self.unknown:
            error = MachineError(f"{what}: Specified qdisc kind is unknown")
            error.code = ENOENT
            raise error
        elif parent == qdisc.ROOT:
            self.top = (name, handle or self.fresh(), options)
            self.leaves = [("fq_codel", 0, self.fair()) for _ in range(2)] if name == "mq" else []
        else:
            assert parent & 0xFFFF0000 == self.top[1], "a class of the root"
            self.leaves[(parent & 0xFFFF) - 1] = (name, handle or self.fresh(), options)
        return []

    def fresh(self) -> int:
        self.next += 0x10000
        return self.next


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()

    def opened(_protocol: int) -> Kernel:
        return made

    monkeypatch.setattr(netlink, "Channel", opened)
    return made


def change(before: Values, after: Values) -> Request:
    return Request("qdisc", before, after, 3, "eth0")


DEFAULT: Values = {"root": "mq 0:", "0-1": "fq_codel 0: quantum=1514"}
FAIR: Values = {"root": "mq 7268:", "0-1": "fq limit=5000"}


def test_a_tree_is_built_and_the_default_comes_back(kernel: Kernel) -> None:
    assert qdisc.read_values(kernel, change({}, DEFAULT)) == DEFAULT
    qdisc.set_values(kernel, change(DEFAULT, FAIR))
    assert kernel.log == ["put mq ffffffff", "put fq 72680001", "put fq 72680002"]
    assert qdisc.read_values(kernel, change({}, FAIR)) == {
        "root": "mq 7268:",
        "0-1": "fq 8001: limit=5000 | fq 8002: limit=5000",
    }
    qdisc.set_values(kernel, change(FAIR, DEFAULT))
    assert qdisc.read_values(kernel, change({}, DEFAULT)) == DEFAULT


def test_a_default_of_another_mtu_is_made_anew(kernel: Kernel) -> None:
    qdisc.set_values(kernel, change(DEFAULT, FAIR))
    kernel.mtu = 2000
    qdisc.set_values(kernel, change(FAIR, DEFAULT))
    assert qdisc.read_values(kernel, change({}, DEFAULT))["0-1"] == "fq_codel 0: quantum=2014"
    kernel.mtu, kernel.log = 1500, []
    qdisc.set_values(kernel, change(FAIR, DEFAULT))
    assert kernel.log == ["put pfifo ffffffff", "del  ffffffff"]
    assert qdisc.read_values(kernel, change({}, DEFAULT)) == DEFAULT


def test_default_leaves_below_somebodys_root_come_back_with_that_root(kernel: Kernel) -> None:
    kernel.top = ("mq", 0x10000, b"")
    before: Values = {"0-1": "fq_codel 0: quantum=1514"}
    qdisc.set_values(kernel, change(before, {"0-1": "fq"}))
    assert kernel.log == ["put fq 10001", "put fq 10002"]
    qdisc.set_values(kernel, change({"0-1": "fq"}, before))
    assert qdisc.read_values(kernel, change({}, DEFAULT)) == {**DEFAULT, "root": "mq 1:"}


def test_a_discipline_that_the_kernel_lacks_leaves_all_as_it_was(kernel: Kernel) -> None:
    kernel.unknown = "fq"
    with pytest.raises(UnsupportedError, match="this kernel has no such discipline"):
        qdisc.set_values(kernel, change(DEFAULT, FAIR))
    assert qdisc.read_values(kernel, change({}, DEFAULT)) == DEFAULT


def test_options_alone_are_changed_where_they_stand_and_only_those_that_differ(kernel: Kernel) -> None:
    kernel.top = ("mq", 0x10000, b"")
    kernel.leaves = [("fq_codel", 0x80010000, nla.u32(2, 100) + nla.u32(5, 1024))] * 2
    now = str(qdisc.read_values(kernel, change({}, {"0": ""}))["0"])
    assert now == "fq_codel 8001: limit=100 flows=1024"
    qdisc.set_values(kernel, change({"0": now}, {"0": "fq_codel 8001: limit=200 flows=1024"}))
    assert kernel.leaves[0] == ("fq_codel", 0x80010000, nla.u32(2, 200)), "flows are for the creation alone"
