"""Several processes and sudden deaths: what was acked is there once, what was not comes again."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from hwdb.db import open_engine
from hwdb.ingest import Ingest
from wire.report import Event

Query = Callable[..., list[tuple[Any, ...]]]
Speaker = Any

CHILD = """
import sys
from hwdb.db import open_engine
from hwdb.ingest import Incoming, Ingest

ingest = Ingest(open_engine(sys.argv[1]))
for line in sys.stdin.buffer:
    topic, _, payload = line.rstrip(b"\\n").partition(b" ")
    result = ingest.batch([Incoming(topic.decode(), payload, 1000)])
    print(*[ack.seq for _, ack in result.acks], flush=True)
"""


def child(url: str, root: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", CHILD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)


@pytest.mark.parametrize("acks_read", [0, 1, 7, 30])
def test_kill_9_loses_and_doubles_nothing(
    acks_read: int, url: str, root: Path, query: Query, speaker: type[Speaker]
) -> None:
    """The child dies between a commit and its ack, or within a transaction; everything unacked is sent again."""
    host = speaker()
    sent = [host.birth(), *[host.row(runs=[host.run("load", None, n=seq)], events=[]) for seq in range(1, 61)]]
    process = child(url, root)
    assert process.stdin
    assert process.stdout
    lines = b"".join(one.topic.encode() + b" " + one.payload + b"\n" for one in sent)
    writer = threading.Thread(target=_write, args=(process.stdin, lines))
    writer.start()
    process.stdout.readline()  # of the birth
    acked = [int(process.stdout.readline()) for _ in range(acks_read)]
    process.kill()
    process.wait()
    writer.join()
    process.stdout.close()
    stored = {int(row[0]) for row in query("SELECT value FROM sample")}
    assert set(acked) <= stored, "an ack means committed"
    ingest = Ingest(open_engine(url))
    result = ingest.batch(sent[1 + (acked[-1] if acked else 0) :])
    assert [ack.seq for _, ack in result.acks] == [60]
    assert Counter(int(row[0]) for row in query("SELECT value FROM sample")) == Counter(range(1, 61))


def _write(pipe: Any, lines: bytes) -> None:
    try:
        pipe.write(lines)
        pipe.close()
    except BrokenPipeError:
        pass


def test_two_ingesters_share_the_hosts(url: str, engine: Engine, query: Query, speaker: type[Speaker]) -> None:
    """Every row is given to both, in batches that hold the hosts in opposite orders."""
    hosts = [speaker(f"h{number}") for number in range(8)]
    sent = [one for host in hosts for one in (host.birth(), *_rows(host))]

    def ingest(share: list[Any]) -> None:
        own = open_engine(url)
        taker = Ingest(own)
        for start in range(0, len(share), 17):
            taker.batch(share[start : start + 17])
        own.dispose()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ingest, (sent, [*sent[::-1], *sent])))
    counted = Counter(row[0] for row in query("SELECT n.host_id FROM sample s JOIN series n ON n.id = s.series_id"))
    assert counted == {host.host_id: 40 for host in hosts}
    assert query("SELECT DISTINCT acked, beyond FROM stream") == [(20, "")]
    assert query("SELECT count(*) FROM event") == [(8 * 20,)]
    assert query("SELECT count(*) FROM conflict") == [(0,)]


def _rows(host: Any) -> list[Any]:
    return [
        host.row(runs=[host.run("load", None, a=seq, b=seq)], events=[Event(at_ms=seq, kind="k", text=str(seq))])
        for seq in range(1, 21)
    ]


def test_two_ingesters_and_one_machine_under_two_new_ids(url: str, query: Query, speaker: type[Speaker]) -> None:
    """Births of one machine under two ids, at the same time: one is a conflict, whoever is first."""
    for number in range(10):
        one, other = speaker(f"a{number}"), speaker(f"b{number}")
        other.fingerprint = one.fingerprint
        gate = threading.Barrier(2)

        def birth(host: Any, gate: threading.Barrier = gate) -> None:
            own = open_engine(url)
            gate.wait()
            Ingest(own).batch([host.birth()])
            own.dispose()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(birth, (one, other)))
        assert query("SELECT count(*) FROM host") == [(number + 1,)]
