"""Coverage-guided fuzzing of link kinds, virtual functions, bonds' texts, RDMA files, answers to diagnostics:

`python tests/fuzz/net.py -runs=100000 [CORPUS]`. The first byte chooses.
"""

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import atheris  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["collectors", "machine", "wire"]):
    from collectors import bond, bonding, rdma
    from collectors.links import Port
    from machine import MachineError, diagnostics, eswitch, linkinfo, nla, team
    from machine.rtnl import Link

HEADER = struct.pack("=BxHiII", 0, 1, 7, 0x1003, 0)
PORT = Port("bond0", Link(7, "bond0", kind="bond"), "", "")


def fuzz_link(raw: bytes) -> None:
    """Whatever a link message holds, bonds, bridges and VLANs are made of it or it is one error."""
    for body in (HEADER + raw, *(HEADER + _kind(kind, raw) for kind in ("bond", "bridge", "vlan"))):
        ifindex, info = linkinfo.parse(body)
        infos = {ifindex: info}
        ports = {ifindex: PORT}
        bond.parse_bond(PORT, ports, infos)
        list(bond.parse_bridges(ports, infos))
        list(bond.parse_vlans(ports, infos))
        linkinfo.parse_switch_port(body)
        linkinfo.hidden_macs(body)


def _kind(kind: str, raw: bytes) -> bytes:
    return nla.nest(18, nla.text(1, kind), nla.nest(2, raw), nla.text(4, kind), nla.nest(5, raw))


def fuzz_vfs(raw: bytes) -> None:
    """Functions with rates that are none below zero."""
    for vf in linkinfo.parse_vfs(HEADER + nla.nest(22, nla.nest(1, raw))):
        assert vf.min_tx_mbps >= 0
        assert vf.max_tx_mbps >= 0


def fuzz_answers(raw: bytes) -> None:
    """Answers of other families."""
    for parse in (team.parse_options, team.parse_ports, eswitch.parse_mode, diagnostics.parse_pairs):
        parse(raw)


def fuzz_tests(raw: bytes) -> None:
    """A self-test's answer, the end of a cable test, a module's first bytes."""
    found = diagnostics.parse_self_test(raw, raw)
    assert all(name.isprintable() for name in found.values)
    diagnostics.parse_announcements(raw, 7)
    list(diagnostics.pages(raw))


def fuzz_texts(raw: bytes) -> None:
    """What the bonding driver and RDMA files say; nothing of it reaches a terminal raw."""
    text = raw.decode(errors="replace")
    found = bond.parse_told(PORT, bonding.parse_bonding("Bonding Mode: transmit load balancing\n" + text), {})
    assert found is not None
    assert all(port.ifname.isprintable() and port.link.isprintable() for port in found.ports)
    for parse in (rdma.parse_state, rdma.parse_node_type, rdma.parse_gid, rdma.parse_guid):
        assert parse(text).isprintable()
    rdma.parse_rate(text)
    rdma.parse_lid(text)


KINDS: tuple[Callable[[bytes], None], ...] = (fuzz_link, fuzz_vfs, fuzz_answers, fuzz_tests, fuzz_texts)


def one_input(data: bytes) -> None:
    """What atheris calls; an exception is a finding."""
    if data:
        try:
            KINDS[data[0] % len(KINDS)](data[1:])
        except MachineError as error:
            assert str(error)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
