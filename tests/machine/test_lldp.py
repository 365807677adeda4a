"""LLDP frames: which ones count, who is remembered, and a capture that names nobody."""

import json
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import DeniedError, MachineError, NotPresentError, Reply, lldp, lldp_public, tape
from machine.capture import Captured, Recording
from machine.disguise import Disguise
from machine.live import Live
from machine.redact import redact
from tests.collectors.lldp_frames import CHASSIS, HEAD, PORT, TTL, frame, org, tlv

if TYPE_CHECKING:
    from tests.machine.conftest import Namespace

DISGUISE = Disguise(b"salt")
MAC = bytes.fromhex("525400aa0001")


@pytest.mark.parametrize(
    ("raw", "head"),
    [
        (frame(), lldp.Head(b"\x00\x07" + CHASSIS + PORT, 120)),
        (frame(ttl=b"\0\0"), lldp.Head(b"\x00\x07" + CHASSIS + PORT, 0)),
        (frame(chassis=b"\x07" + bytes(400)), lldp.Head(b"\x01\x91\x07" + bytes(400) + PORT, 120)),
        (frame(ttl=b"\1"), None),
        (HEAD + tlv(2, PORT) + tlv(1, CHASSIS) + tlv(3, TTL), None),
        (b"", None),
    ],
)
def test_who_speaks_and_for_how_long(raw: bytes, head: lldp.Head | None) -> None:
    assert lldp.parse_head(raw) == head


def test_names_of_chassis_and_port_are_not_mixed_up() -> None:
    one, other = frame(chassis=b"\x07ab", port=b"\x05c"), frame(chassis=b"\x07a", port=b"\x62\x05c")
    assert lldp.parse_head(one) != lldp.parse_head(other)


@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(1, 127), st.binary(max_size=511)), max_size=6))
def test_tlvs_are_those_that_were_put_in_up_to_the_first_end(junk: bytes, pairs: list[tuple[int, bytes]]) -> None:
    packed = b"".join(tlv(kind, value) for kind, value in pairs)
    assert list(lldp.tlvs(HEAD + packed + b"\0\0" + junk)) == pairs
    assert list(lldp.tlvs(HEAD + packed + b"\xff\xff" + junk)) == pairs
    assert list(lldp.tlvs(junk)) == []


def test_a_redacted_frame_names_nobody_and_stays_a_frame() -> None:
    raw = frame(
        tlv(4, b"Ethernet1/3"),
        tlv(5, b"sw1.secret.example"),
        tlv(8, b"\x05\x01\xc0\xa8\x02\x01\x02\0\0\0\x05\0"),
        tlv(8, b"\x11\x02" + bytes.fromhex("20010db8123456780000000000000001") + b"\x01\0\0\0\0\0"),
        org("0012bb", 8, b"SERIAL123"),
        org("0012bb", 10, b"DCS-7050"),
        port=b"\x03" + MAC,
    )
    public = lldp_public.frame(raw, DISGUISE)
    for secret in (MAC, b"secret", b"sw1", b"\xc0\xa8\x02\x01", bytes.fromhex("20010db812345678"), b"SERIAL123"):
        assert secret in raw
        assert secret not in public
    assert len(public) == len(raw)
    assert public.count(DISGUISE.mac(MAC)) == 3  # the sender, the chassis, the port
    assert (b"Ethernet1/3" in public, b"DCS-7050" in public) == (True, True)


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(1, 127), st.binary(max_size=511)), max_size=6))
def test_any_frame_can_be_redacted(junk: bytes, pairs: list[tuple[int, bytes]]) -> None:
    raw = frame(*(tlv(kind, value) for kind, value in pairs))
    assert lldp.parse_head(lldp_public.frame(raw, DISGUISE)) is not None
    lldp_public.frame(junk, DISGUISE)


def test_lldpds_words_are_redacted_as_the_frames_are() -> None:
    said = {
        "lldp": [{"interface": [{
            "name": "eth0",
            "chassis": [{"id": [{"type": "local", "value": "rack 7"}], "name": [{"value": "sw1.example"}],
                         "mgmt-ip": [{"value": "192.168.7.1"}]}],
            "port": [{"id": [{"type": "ifname", "value": "Ethernet3"}], "descr": [{"value": "52:54:00:aa:00:01"}]}],
            "lldp-med": [{"inventory": [{"serial": [{"value": "SERIAL123"}], "model": [{"value": "DCS-7050"}]}]}],
        }]}]
    }  # fmt: skip
    call = ("command", "lldpcli", "-f", "json0", "show", "neighbors", "details")
    frames = ("lldp", "2")
    recorded: tape.Tape = {call: json.dumps(said).encode(), frames: [Reply(2, frame(tlv(5, b"sw1.example")))]}
    public = redact(recorded, b"salt")
    text, replies = public[call], public[frames]
    assert isinstance(text, bytes)
    assert isinstance(replies, list)
    for secret in (b"rack 7", b"sw1", b"192.168.7.1", b"aa:00:01", b"SERIAL123"):
        assert secret not in text
    for kept in (b'"eth0"', b"Ethernet3", b"DCS-7050", b"52:54:00:"):
        assert kept in text
    (interface,) = json.loads(text)["lldp"][0]["interface"]
    name = interface["chassis"][0]["name"][0]["value"].encode()
    assert tlv(5, name) in replies[0].payload


@pytest.mark.parametrize("text", ["", "no JSON", "[" * 100_000])
def test_what_lldpcli_says_that_is_no_json_goes(text: str) -> None:
    assert lldp_public.answer(text, DISGUISE) == ""


def test_frames_come_back_from_a_capture() -> None:
    class Speaking(Live):
        def lldp_frames(self, ifindexes: object) -> list[Reply]:  # noqa: ARG002
            return [Reply(2, frame()), Reply(3, frame(tlv(5, b"sw1")))]

    recording = Recording(Speaking())
    said = recording.lldp_frames([3, 2])
    captured = Captured(recording.dump(redact=False))
    assert captured.lldp_frames([2, 3]) == said
    with pytest.raises(NotPresentError):
        captured.lldp_frames([2])


def test_a_machine_that_is_a_folder_hears_nothing(tmp_path: object) -> None:
    with pytest.raises(NotPresentError):
        Live(str(tmp_path)).lldp_frames([])


@pytest.mark.root
def test_a_listener_takes_the_groups_and_leaves_them_when_it_is_closed(veth: "Namespace") -> None:
    index = veth.ifindex("va")

    def joined() -> set[str]:
        shown = json.loads(veth.ip("-j", "maddr", "show", "dev", "va"))
        return {entry["link"] for one in shown for entry in one["maddr"] if "link" in entry}

    groups = {f"01:80:c2:00:00:{last}" for last in ("0e", "03", "00")}
    with Live() as machine:
        assert veth.run(lambda: machine.lldp_frames([index, 99_999])) == []  # its socket stays in the namespace
        assert groups <= joined()
        assert machine.lldp_frames([index]) == []
    assert not groups & joined()


@pytest.mark.root
def test_what_waited_too_long_is_of_no_known_age(veth: "Namespace", monkeypatch: pytest.MonkeyPatch) -> None:
    listener = veth.run(lldp.Listener)
    now = time.monotonic()
    try:
        for later, heard in ((lldp.UNREAD_S - 1, 1), (2 * lldp.UNREAD_S, 0)):
            veth.run(lambda: _send("vb", frame()))
            monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
            assert len(veth.run(lambda: listener.frames([]))) == heard
    finally:
        listener.close()


def _send(ifname: str, raw: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((ifname, 0))
        out.send(raw)


@pytest.mark.root
def test_without_the_right_to_listen_it_is_denied() -> None:
    script = (
        "from machine import DeniedError\nfrom machine.live import Live\n"
        "try:\n    Live().lldp_frames([])\nexcept DeniedError as error:\n    print(error)"
    )
    argv = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable, "-c", script]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "listen for LLDP: Operation not permitted" in said
    assert issubclass(DeniedError, MachineError)
