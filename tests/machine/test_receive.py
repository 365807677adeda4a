"""RSS, flow rules, single NAPIs and queues through the real kernel, on a NIC that has no such operations: a veth."""

from typing import TYPE_CHECKING

import pytest

from machine import MachineError, NotPresentError, UnsupportedError, perqueue, requests, rxfh, rxnfc
from machine.change import LiveWriter
from machine.napi import parse_status
from wire.policy import Request, Values

if TYPE_CHECKING:
    from tests.machine.conftest import Namespace

REFUSED: list[tuple[str, str, Values, type[MachineError]]] = [
    ("rss", "", {"table": "0-3 over 128"}, UnsupportedError),
    ("rss", "", {"key": "00" * 40}, UnsupportedError),
    ("rss_fields", "", {"udp4": "sdfn"}, UnsupportedError),
    ("rss_context", "2-3", {"exists": True}, UnsupportedError),
    ("ntuple", "5", {"rule": "tcp4 dst-port 22 queue 1"}, UnsupportedError),
    ("coalesce_queue", "0", {"rx_usecs": 8}, UnsupportedError),
    ("napi", "77", {"gro_flush_timeout": 8}, NotPresentError),
    ("napi_thread", "77", {"cpus": "0"}, NotPresentError),
]


@pytest.mark.root
@pytest.mark.parametrize(("message", "item", "values", "error"), REFUSED)
def test_what_the_driver_lacks_is_unsupported_and_what_is_gone_not_there(
    veth: "Namespace", message: str, item: str, values: Values, error: type[MachineError]
) -> None:
    op = Request(message, values, values, ifindex=veth.ifindex("va"), ifname="va", item=item)
    with veth.live(LiveWriter) as machine:
        with pytest.raises(error):
            veth.run(lambda: machine.request(op))
        if message != "rss_context":  # the kernel lists none where there can be none
            with pytest.raises(error):
                veth.run(lambda: requests.read(machine, op))


@pytest.mark.root
def test_a_nic_without_them_reads_as_without_them(veth: "Namespace") -> None:
    with veth.live(LiveWriter) as machine:
        for read in (lambda: rxfh.read(machine, "va"), lambda: rxnfc.read_rules(machine, "va", 2)):
            with pytest.raises(UnsupportedError):
                veth.run(read)
        with pytest.raises(UnsupportedError):
            veth.run(lambda: perqueue.read(machine, "va", range(4)))
        assert veth.run(lambda: rxfh.read_contexts(machine, veth.ifindex("va"))) == {}
        assert not veth.run(lambda: rxfh.reset_default(machine, "va"))


def test_the_cpus_of_a_thread() -> None:
    assert parse_status("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,7\n") == "0-3,7"
    assert parse_status("Name:\tx\n") == ""


def test_a_table_or_key_of_another_size_is_refused_before_the_kernel_is_asked() -> None:
    with pytest.raises(MachineError, match="has 64 entries, not 128"):
        rxfh.sized_table("eth0", "0-3 over 128", 64)
    with pytest.raises(MachineError, match="bad indirection table"):
        rxfh.sized_table("eth0", "0-3 over 2", 2)
    with pytest.raises(MachineError, match="has 40 bytes, not 2"):
        rxfh.sized_key("eth0", "00ff", 40)
