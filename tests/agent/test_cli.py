"""The command line: what it prints, its exit codes, and one line for each error."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import VERSION
from agent.cli import VERBS
from agent.config import ENVIRONMENT
from machine.capture import Captured
from tests.agent.brokers import AgentProcess, BrokerProcess
from tests.agent.space import NIC, Space
from wire.codec import encode
from wire.policy import Desired, Setting, content_hash

POLICY = f"""
name: four-queues
nics: [ifname={NIC}]
knobs:
  channels: {{rx: 2, tx: 2}}
"""


def cli(root: Path, *arguments: str, inside: Space | None = None) -> "subprocess.CompletedProcess[str]":
    prefix = inside.inside() if inside else []
    argv = [*prefix, sys.executable, "-m", "agent.cli", *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True, cwd=root, stdin=subprocess.DEVNULL)


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("rackhand-agent: ")
    return lines[0]


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    made = Space(tmp_path / "state")
    yield made
    made.close()


def policy(folder: Path, text: str = POLICY) -> str:
    path = folder / "policy.yaml"
    path.write_text(text)
    return str(path)


def test_version_is_the_projects(root: Path) -> None:
    assert f'version = "{VERSION}"' in (root / "pyproject.toml").read_text()
    assert cli(root, "--version").stdout.strip() == f"rackhand-agent {VERSION}"


def test_once_needs_no_broker(root: Path) -> None:
    done = cli(root, "once", "-o", "json")
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    assert {"cpu", "memory", "nic"} <= {fact["kind"] for fact in whole["facts"]}
    assert whole["samples"]
    text = cli(root, "once")
    assert text.returncode == 0
    assert "memory:" in text.stdout


def test_capture_is_a_machine_to_read_from(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "machine.txt"
    assert cli(root, "capture", "-o", str(path)).returncode == 0
    assert Captured(path).read("/proc/meminfo").startswith("MemTotal")


def test_doctor_names_what_fails_and_its_remedy(root: Path, tmp_path: Path, broker: BrokerProcess) -> None:
    state = ("--state", str(tmp_path / "state"))
    well = cli(root, "doctor", *state, "--broker", f"127.0.0.1:{broker.port}", "-o", "json")
    checks = {check["name"]: check for check in json.loads(well.stdout)}
    assert checks["reach the broker"]["verdict"] == "ok", checks
    assert checks["read sysfs"]["verdict"] == checks["packages"]["verdict"] == "ok"
    assert well.returncode == int(any(check["verdict"] == "failed" for check in checks.values()))
    broker.kill()
    ill = cli(root, "doctor", *state, "--broker", f"127.0.0.1:{broker.port}")
    assert ill.returncode == 1
    (line,) = [line for line in ill.stdout.splitlines() if line.startswith("reach the broker")]
    assert "failed" in line
    assert "broker.host" in line


ERRORS: dict[str, tuple[list[str], int, str]] = {
    "no configuration": (["status", "--config", "/nonexistent"], 2, "no such file"),
    "no policy": (["plan", "/nonexistent"], 2, "No such file"),
    "nobody to ask": (["apply", "/nonexistent"], 2, "--yes is needed"),
    "nothing to undo": (["rollback", "--yes"], 1, "no committed transaction"),
    "label": (["status", "--label", "nonsense"], 2, "not name=value"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_line_and_a_code(root: Path, tmp_path: Path, case: str) -> None:
    arguments, code, text = ERRORS[case]
    done = cli(root, *arguments, "--state", str(tmp_path / "state"))
    assert text in one_line(done)
    assert done.returncode == code


def test_policy_problems_have_a_place(root: Path, tmp_path: Path) -> None:
    path = policy(tmp_path, "name: x\nknobs:\n  rings: {colour: 3}\n")
    done = cli(root, "plan", path)
    assert (done.returncode, f"{path}:3:" in one_line(done)) == (2, True)


@pytest.mark.root
def test_plan_apply_and_rollback_on_a_real_nic(root: Path, tmp_path: Path, space: Space) -> None:
    state, file = ("--state", str(space.state)), policy(tmp_path)
    before = space.snapshot()
    planned = cli(root, "plan", file, *state, inside=space)
    assert (planned.returncode, "channels" in planned.stdout) == (0, True), planned.stderr
    assert space.snapshot() == before
    applied = cli(root, "apply", file, "--yes", *state, inside=space)
    assert applied.returncode == 0, applied.stderr
    assert "applied" in applied.stdout
    assert space.snapshot()[0]["channels"]["rx"] == 2
    again = cli(root, "apply", file, "--yes", *state, inside=space)
    assert (again.returncode, again.stdout.strip()) == (0, "nothing to change")
    undone = cli(root, "rollback", "--yes", *state, inside=space)
    assert (undone.returncode, "reverted" in undone.stdout) == (0, True)
    assert space.snapshot() == before


@pytest.mark.root
def test_a_person_who_does_not_confirm_gets_it_undone(root: Path, tmp_path: Path, space: Space) -> None:
    """A terminal, where yes is typed to the plan and nothing to the question whether to keep it."""
    script = f"""
import os, pty, sys
os.environ["PYTHONPATH"] = {str(root)!r}
argv = [sys.executable, "-m", "agent.cli", "apply", {policy(tmp_path)!r}, "--state", {str(space.state)!r},
        "--confirm-within", "4"]
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.executable, argv)
os.write(fd, b"y\\n")
try:
    while chunk := os.read(fd, 4096):
        sys.stdout.write(chunk.decode())
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    before = space.snapshot()
    argv = space.inside(sys.executable, "-c", script)
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=root, timeout=120)
    assert done.returncode == 6, done.stdout + done.stderr
    assert "Keep it?" in done.stdout
    assert space.snapshot() == before


@pytest.mark.root
@pytest.mark.broker
def test_apply_is_refused_where_an_agent_enforces(root: Path, tmp_path: Path, broker: BrokerProcess) -> None:
    state = tmp_path / "state"
    state.mkdir()
    settings = [Setting(knob="rings", nic="a-nic", values={"rx": 512})]
    desired = Desired(host_id="h", generation=3, hash=content_hash(settings), settings=settings)
    (state / "desired.json").write_bytes(encode(desired))
    agent = AgentProcess(state, broker.port, "--no-observe")
    done = cli(root, "apply", policy(tmp_path), "--yes", "--state", str(state))
    assert done.returncode == 5
    assert "enforces generation 3" in one_line(done)
    found = json.loads(cli(root, "status", "--state", str(state), "-o", "json").stdout)
    assert (found["pid"], found["observe"], found["generation"]) == (agent.process.pid, False, 3)
    agent.kill()


def test_readme_has_every_module_verb_code_and_variable(root: Path) -> None:
    readme = (root / "agent" / "README.md").read_text()
    modules = {path.stem for path in (root / "agent").glob("*.py")} - {"__init__"}
    assert {name for name in modules if f"| `{name}` |" not in readme} == set()
    assert [verb for verb in VERBS if verb not in readme] == []
    assert [name for name in ENVIRONMENT if name not in readme] == []
