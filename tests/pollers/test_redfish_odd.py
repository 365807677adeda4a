"""What answers where Redfish should, and is none: one line each."""

import socket
import threading
from collections.abc import Iterator

import pytest

from pollers.target import DeviceError, Target
from tests.pollers.test_redfish import SECRET, polls


@pytest.fixture
def odd() -> Iterator[tuple[Target, list[bytes]]]:
    """A server on loopback that answers every connection with the next of the answers; the last one again and again."""
    answers: list[bytes] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        held: list[socket.socket] = []

        def answer() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                held.append(peer)
                if answers[0]:
                    peer.recv(4096)
                    peer.sendall(answers[0])
                    peer.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = int(listener.getsockname()[1])
        yield Target(name="o", protocol="redfish", address="127.0.0.1", port=port, tls="none", deadline_s=3), answers
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in held:
            each.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "no answer within 3 s"),  # it accepts and is silent
        (b"SSH-2.0-OpenSSH\r\n", "no answer from Redfish"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[[[[", "no Redfish resource at /redfish/v1"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/redfish/v1/\r\nContent-Length: 0\r\n\r\n", "no "),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "no "),
    ],
)
def test_what_is_no_redfish_is_one_line(odd: tuple[Target, list[bytes]], answer: bytes, said: str) -> None:
    target, answers = odd
    answers.append(answer)
    with pytest.raises(DeviceError, match=said) as caught:
        polls(target, SECRET)
    assert "\n" not in str(caught.value)


def test_a_certificate_that_nobody_signed_is_said_to_be_that(odd: tuple[Target, list[bytes]]) -> None:
    target, answers = odd
    answers.append(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(DeviceError, match="no answer from Redfish: it does not speak TLS properly"):
        polls(Target(name="o", protocol="redfish", address=target.address, port=target.port, deadline_s=10), SECRET)
