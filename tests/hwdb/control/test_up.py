"""`rackhand up`: one screen of this host from SQL, one `up` per state directory, and nothing left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwdb import broker
from hwdb.cli.failure import Exit

pytestmark = pytest.mark.broker
Until = Callable[[Callable[[], object], str], None]
ENTRY = [sys.executable, "-c", "from hwdb.cli.main import main; main()"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RACKHAND_")}
    return {**kept, "RACKHAND_CONFIG": os.devnull, **more}


def once(state: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    argv = [*ENTRY, "up", "--once", "--state", str(state), *arguments]
    return subprocess.run(argv, env=environment(**more), capture_output=True, text=True, check=False, timeout=180)


def processes_of(state: Path) -> list[str]:
    """Command lines of the processes that have this state directory in their arguments or environment."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(state).encode() in words and int(process.name) != os.getpid() and line:
            found.append(line)
    return found


@pytest.fixture
def staying(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start an `up` that stays; killed at the end if the test did not end it."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        argv = [*ENTRY, "up", "--state", str(tmp_path / "state"), *arguments]
        process = subprocess.Popen(
            argv, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_screen(process: "subprocess.Popen[str]") -> str:
    """What it prints until it says that it stays."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            return "".join(lines)
    raise AssertionError(f"it ended: {''.join(lines)} {process.stderr.read() if process.stderr else ''}")


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - http on loopback
        body = answer.read().decode()
    return json.loads(body) if body[:1] in "[{" else body


def test_once_prints_this_host_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for columns in (80, 120):
        done = once(tmp_path / "state", COLUMNS=str(columns))
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= columns
        for word in (socket.gethostname(), os.uname().release, "network", "findings", "where", "rackhand events"):
            assert word in done.stdout
        assert "\x1b" not in done.stdout
        assert processes_of(tmp_path / "state") == []


def test_once_as_json_is_the_same_screen_for_programs(tmp_path: Path) -> None:
    front = json.loads(once(tmp_path / "state", "-o", "json").stdout)
    kinds = {fact["kind"] for fact in front["facts"]}
    assert {"dmi", "cpu", "memory", "nic"} <= kinds
    assert front["hostname"] == socket.gethostname()
    assert {fact["ifname"] for fact in front["facts"] if fact["kind"] == "nic"} >= {"lo"}


def test_it_works_without_mosquitto_and_warns_of_nothing(tmp_path: Path) -> None:
    code = "from hwdb.cli.main import main; main()"
    argv = [sys.executable, "-W", "error", "-c", code, "up", "--once", "--state", str(tmp_path / "state")]
    argv += ["--broker", "amqtt"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "(amqtt)" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(
    tmp_path: Path, staying: Callable[..., "subprocess.Popen[str]"], number: signal.Signals
) -> None:
    process = staying()
    read_screen(process)
    assert any("agent.cli" in line for line in processes_of(tmp_path / "state"))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (0, False), errors
    assert processes_of(tmp_path / "state") == []


def test_when_it_is_killed_its_children_end(
    tmp_path: Path, staying: Callable[..., "subprocess.Popen[str]"], until: Until
) -> None:
    process = staying()
    read_screen(process)
    process.kill()
    process.communicate()
    until(lambda: processes_of(tmp_path / "state") == [], "a child outlived it")


def test_a_second_one_is_told_about_the_first(tmp_path: Path, staying: Callable[..., "subprocess.Popen[str]"]) -> None:
    process = staying("--no-agent")
    read_screen(process)
    done = once(tmp_path / "state")
    assert done.returncode == Exit.RUNNING
    assert done.stderr.strip().splitlines() == [
        f"rackhand: another `rackhand up` (pid {process.pid}) runs in {tmp_path / 'state'}"
    ]
    assert process.poll() is None


def test_ports_in_use_are_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind((broker.LOOPBACK, 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        done = once(tmp_path / "one", "--port", port)
        assert (done.returncode, len(done.stderr.splitlines())) == (Exit.BROKER, 1)
        assert f"127.0.0.1:{port}: Address already in use" in done.stderr
        done = once(tmp_path / "two", "--api-port", port)
        assert (done.returncode, len(done.stderr.splitlines())) == (Exit.FAILED, 1)
        assert f"127.0.0.1:{port}: Address already in use" in done.stderr
    assert processes_of(tmp_path) == []


def test_a_state_directory_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = once(tmp_path / "file" / "below")
    assert (done.returncode, len(done.stderr.splitlines())) == (Exit.FAILED, 1)


def test_an_agent_that_ends_says_why(tmp_path: Path) -> None:
    done = once(tmp_path / "state", RACKHAND_SITE="Not A Site")
    assert done.returncode == Exit.NO_REPORT
    assert "Not A Site" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert processes_of(tmp_path / "state") == []


def test_the_agent_is_started_again(
    tmp_path: Path, staying: Callable[..., "subprocess.Popen[str]"], until: Until
) -> None:
    read_screen(staying())
    pids = agent_pids(tmp_path / "state")
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: (found := agent_pids(tmp_path / "state")) and found != pids, "nobody started it again")


def agent_pids(state: Path) -> list[int]:
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"agent.cli\0run" in (process / "cmdline").read_bytes()
                and str(state).encode() in (process / "environ").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_the_api_answers(staying: Callable[..., "subprocess.Popen[str]"]) -> None:
    screen = read_screen(staying())
    found = re.search(r"http://127\.0\.0\.1:\d+", screen)
    assert found
    base = found[0]
    (host,) = get(f"{base}/api/v1/hosts")
    assert (host["hostname"], host["online"], host["observe"]) == (socket.gethostname(), True, True)
    whole = get(f"{base}/api/v1/hosts/{host['host_id']}")
    assert whole["host"]["entry"]["host_id"] == host["host_id"]
    assert {one["hostname"] for one in get(f"{base}/api/v1/findings")} <= {socket.gethostname()}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{base}/api/v1/hosts/none")
    assert get(f"{base}/health")["ok"] is True
    metrics = dict(line.split() for line in get(f"{base}/metrics").splitlines() if not line.startswith("#"))
    assert float(metrics["rackhand_hosts_online"]) == 1
    assert float(metrics["rackhand_acks_total"]) > 0
    assert float(metrics["rackhand_ingest_rows_total"]) > 0
    assert float(metrics["rackhand_dead_letters"]) == 0


def test_health_says_when_the_broker_is_gone(tmp_path: Path, staying: Callable[..., "subprocess.Popen[str]"]) -> None:
    if broker.mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    process = staying("--no-agent")
    read_screen(process)
    (pid,) = [
        int(found.name)
        for found in Path("/proc").glob("[0-9]*")
        if (found / "cmdline").exists() and f"{tmp_path}/state/broker/mosquitto.conf" in (found / "cmdline").read_text()
    ]
    os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == Exit.BROKER
    assert re.fullmatch(r"rackhand: the broker on 127\.0\.0\.1:\d+ ended\n", errors)


def test_the_screen_comes_back_from_sql_without_any_of_it_running(tmp_path: Path) -> None:
    assert once(tmp_path / "state").returncode == 0
    argv = [*ENTRY, "host", socket.gethostname(), "--db", f"sqlite:///{tmp_path}/state/rackhand.db"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert os.uname().release in done.stdout
