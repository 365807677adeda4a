"""`rackhand` as people and programs call it: the process, its output in every form, and its exit codes."""

import csv
import functools
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from hwdb import migrate, models
from hwdb.cli.failure import Exit
from hwdb.db import open_engine, rows, writing
from hwdb.ingest import Incoming, Ingest
from wire.codec import encode, raw
from wire.facts import Cpu, Dmi, Ethtool, Irq, Memory, Nic, Queue
from wire.report import Birth, Event, Fingerprint, Report, Run, State
from wire.topics import Channel, topic

ENTRY = [sys.executable, "-c", "from hwdb.cli.main import main; main()"]
HOSTILE = "\x1b]0;owned\x07=cmd|'/C calc'!A0\x1b[2J\u202e"
FORMS = ("table", "wide", "json", "yaml", "csv")
POLICY = """\
name: edge
match: [labels.role=edge]
knobs: {rings: {rx: max}}
"""


def run(url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RACKHAND_DB": url, "COLUMNS": "100"}
    return subprocess.run(
        [*ENTRY, *arguments], input=stdin, capture_output=True, text=True, env=environment, check=False, timeout=120
    )


def fine(url: str, *arguments: str) -> str:
    done = run(url, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def fails(url: str, code: Exit, *arguments: str) -> str:
    """The one line on stderr."""
    done = run(url, *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def host_messages(host_id: str, hostname: str, role: str, serial: str, start: str = "s1") -> list[Incoming]:
    mac = f"02:00:00:00:00:{host_id[-2:]}"
    nic = Nic(
        key=mac, ifname="eth0", ifindex=2, type="physical", mac=mac, up=True, carrier=True, driver="ice",
        speed_mbps=10000, max_speed_mbps=25000, rx_queues=2, tx_queues=2, numa_node=1, firmware=HOSTILE,
    )  # fmt: skip
    facts = [
        Dmi(hostname=hostname, vendor="Dell Inc.", product="R760", kernel="6.1.0"),
        Cpu(model="Xeon", packages=2, cores=4, threads=8, online="0-7"),
        Memory(total_kb=16 * 1024**2),
        nic,
        Nic(key="lo", ifname="lo", ifindex=1, type="loopback"),
        Ethtool(key=mac, ifname="eth0", ifindex=2, rings={"rx": 256, "rx_max": 4096}, channels={"combined": 2}),
        Irq(key=mac, ifname="eth0", source="netdev-genl", queues=[Queue(irq=45, rx=[0], tx=[0], cpus="0-3")]),
    ]
    events = [Event(at_ms=1_700_000_000_000 + number, kind="link.down", text=HOSTILE) for number in range(3)]
    born = Birth(
        host_id=host_id, start=start, epoch="e1", hostname=hostname, at_ms=1_700_000_000_000, agent_version="0.1.0",
        fingerprint=Fingerprint(machine_id=host_id, product_serial=serial), labels={"role": role},
    )  # fmt: skip
    report = Report(
        host_id=host_id, epoch="e1", seq=1, floor=1, start=start, events=[raw(event) for event in events],
        runs=[Run(collector="nic", at_ms=1_700_000_000_000, digest="d", facts=[raw(fact) for fact in facts])],
    )  # fmt: skip
    said = (
        (Channel.BIRTH, born),
        (Channel.STATE, State(host_id=host_id, start=start, online=True)),
        (Channel.REPORT, report),
    )
    now = time.time_ns() // 1_000_000
    return [Incoming(topic("lab", host_id, channel), encode(message), now) for channel, message in said]


def filled(path: Path) -> str:
    url = f"sqlite:///{path}"
    migrate.upgrade(url)
    fill(url)
    return url


def fill(url: str) -> None:
    engine = open_engine(url)
    messages = host_messages("host-01", "alpha", "edge", "SN-0001") + host_messages(
        "host-02", "beta", "core", "SN-0002"
    )
    messages += host_messages("host-01", "alpha", "edge", "SN-9999", "s2")[:1]  # a clone
    result = Ingest(engine).batch(messages)
    assert (result.dead, len(result.conflicts)) == (0, 1)
    engine.dispose()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return filled(tmp_path / "inventory.db")


@pytest.fixture
def other_url(postgres: str) -> Iterator[str]:
    """The same inventory on PostgreSQL."""
    name = f"cli{os.urandom(6).hex()}"
    with psycopg.connect(postgres.format(name="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE migrated".encode())
        fill(postgres.format(name=name))
        yield postgres.format(name=name)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def edge(tmp_path: Path) -> str:
    file = tmp_path / "edge.yaml"
    file.write_text(POLICY)
    return str(file)


def parsed(form: str, text: str) -> list[Any]:
    if form == "json":
        return json.loads(text) if text.startswith("[") else [json.loads(text)]
    if form == "yaml":
        found = yaml.safe_load(text)
        return found if isinstance(found, list) else [found]
    if form == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    return text.splitlines()[1:]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["hosts"], 2),
        (["hosts", "--where", "labels.role=edge"], 1),
        (["nics"], 2),
        (["nics", "-w", "type=loopback"], 2),
        (["nics", "-w", "driver in ice,i40e", "-w", "speed_mbps>=10000"], 2),
        (["irqs", "alpha"], 1),
        (["events"], 6),
        (["events", "--host", "alpha", "-n", "2"], 2),
        (["conflicts", "list"], 1),
        (["db", "check"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_form_parses_back_with_the_same_rows(url: str, arguments: list[str], count: int) -> None:
    for form in FORMS:
        text = fine(url, *arguments, "-o", form)
        assert len(parsed(form, text)) == count, (form, text)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


@pytest.mark.parametrize("form", FORMS)
def test_one_host_is_shown_whole(url: str, form: str) -> None:
    text = fine(url, "host", "alpha", "-o", form)
    assert parsed(form, text)
    for word in ("alpha", "ice", "R760") if form != "csv" else ("alpha", "R760"):
        assert word in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


@pytest.mark.postgres
def test_postgresql_answers_the_same(url: str, other_url: str, edge: str) -> None:
    asked = (
        ["hosts"],
        ["hosts", "--where", "labels.role=edge"],
        ["host", "alpha"],
        ["nics", "--where", "driver=ice"],
        ["irqs", "beta"],
        ["events"],
        ["findings"],
        ["conflicts", "list"],
        ["policy", "plan", edge],
        ["policy", "apply", edge, "--yes"],
        ["policy", "show", "edge"],
        ["policy", "rm", "edge", "--yes"],
        ["conflicts", "accept", "1", "--yes"],
    )
    for arguments in asked:
        here, there = (
            re.sub(r'"(\w+_ms)": \d+', r'"\1": 0', fine(which, *arguments, "-o", "json")) for which in (url, other_url)
        )
        assert here == there
        assert len(json.loads(here)) > 0


def test_a_finding_has_its_remedy_in_every_form(url: str) -> None:
    slow = json.loads(fine(url, "findings", "-o", "json"))
    assert {(one["hostname"], one["target"]) for one in slow} == {("alpha", "eth0"), ("beta", "eth0")}
    assert all(one["remedy"] for one in slow)
    assert fine(url, "findings", "--host", "beta", "-o", "csv").count("beta,") == len(slow) // 2


def test_what_a_host_supplied_starts_no_formula(url: str) -> None:
    cells = [cell for row in csv.reader(io.StringIO(fine(url, "events", "-o", "csv"))) for cell in row]
    assert "'=cmd|'/C calc'!A0" in cells
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@")]


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (Exit.NOT_FOUND, ["host", "gamma"], "no host 'gamma'"),
        (Exit.NOT_FOUND, ["host", "host-0"], "could be host-01, host-02"),
        (Exit.NOT_FOUND, ["irqs", "gamma"], "no host 'gamma'"),
        (Exit.NOT_FOUND, ["policy", "show", "none"], "no stored policy 'none'"),
        (Exit.NOT_FOUND, ["policy", "plan", "none"], "no file and no stored policy"),
        (Exit.NOT_FOUND, ["policy", "rm", "none", "--yes"], "no stored policy 'none'"),
        (Exit.NOT_FOUND, ["conflicts", "accept", "77", "--yes"], "no conflict 77 waits"),
        (Exit.BAD_INPUT, ["nics", "--where", "drvier=ice"], 'did you mean "driver"?'),
        (Exit.BAD_INPUT, ["hosts", "--where", "nonsense"], "column 1"),
        (Exit.BAD_INPUT, ["policy", "apply", "/nowhere.yaml"], "/nowhere.yaml: No such file"),
        (Exit.REFUSED, ["conflicts", "reject", "1"], "say --yes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_is_one_line_and_its_own_code(url: str, code: Exit, arguments: list[str], words: str) -> None:
    assert words in fails(url, code, *arguments)


@pytest.mark.parametrize("verb", [["hosts"], ["nics"], ["events"], ["host", "x"], ["policy", "show"]])
def test_a_database_that_is_not_there_or_is_none(tmp_path: Path, verb: list[str]) -> None:
    assert "rackhand db upgrade" in fails(f"sqlite:///{tmp_path}/none.db", Exit.DATABASE, *verb)
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database at all, but long enough to be one" * 100)
    assert "not a database" in fails(f"sqlite:///{broken}", Exit.DATABASE, *verb)
    fails("postgresql://127.0.0.1:1/none?connect_timeout=2", Exit.DATABASE, *verb)
    fails("nonsense", Exit.DATABASE, *verb)


def test_a_wrong_option_is_a_usage_error(url: str) -> None:
    for wrong in (["hosts", "-o", "xml"], ["hosts", "--nope"], ["nope"], ["host"], ["hosts", "-o"]):
        done = run(url, *wrong)
        assert (done.returncode, done.stdout) == (Exit.USAGE, "")
        assert "Traceback" not in done.stderr


def test_a_reader_that_stops_early_is_no_error(url: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" | head -n 1', "sh", *ENTRY, "events", "-o", "json"],
        env={**os.environ, "RACKHAND_DB": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("[", "")


def test_lint_says_where(url: str, tmp_path: Path, edge: str) -> None:
    assert json.loads(fine(url, "policy", "lint", edge, "-o", "json")) == []
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: edge\nknobs:\n  rigns: {rx: max}\n")
    done = run(url, "policy", "lint", str(wrong), "-o", "json")
    assert done.returncode == Exit.BAD_INPUT
    (problem,) = json.loads(done.stdout)
    assert (problem["line"], problem["column"]) == (3, 3) if isinstance(problem, dict) else problem[:2] == [3, 3]
    assert "wrong.yaml:3:3" in fails(url, Exit.BAD_INPUT, "policy", "apply", str(wrong), "--yes")
    wrong.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in fails(url, Exit.BAD_INPUT, "policy", "lint", str(wrong))


@pytest.mark.parametrize("form", FORMS)
def test_plan_says_what_would_change_where(url: str, edge: str, form: str) -> None:
    text = fine(url, "policy", "plan", edge, "-o", form)
    assert "alpha" in text
    assert "beta" not in text
    assert parsed(form, text)
    if form == "json":
        (one,) = json.loads(text)
        (change,) = one["plan"]["changes"]
        assert (change["knob"], change["op"]["before"], change["op"]["after"]) == ("rings", {"rx": 256}, {"rx": 4096})
        assert (change["policy"], change["blast"]) == ("edge", "link")
    elif form != "yaml":
        assert "rx=256" in text
        assert "rx=4096" in text


def test_a_selector_that_matches_nothing_says_so(url: str, tmp_path: Path) -> None:
    lonely = tmp_path / "lonely.yaml"
    lonely.write_text(POLICY.replace("edge]", "moon]"))
    done = run(url, "policy", "plan", str(lonely))
    assert (done.returncode, done.stdout) == (0, "")
    assert "no host matches labels.role=moon" in done.stderr
    done = run(url, "policy", "apply", str(lonely), "--yes")
    assert done.returncode == 0
    assert "no host matches labels.role=moon" in done.stderr
    assert "no NIC fits" in run(url, "nics", "--where", "driver=none").stderr
    assert "no host fits" in run(url, "hosts", "--where", "labels.role=moon").stderr


def test_a_policy_is_applied_shown_replaced_and_removed(url: str, edge: str) -> None:
    assert "say --yes" in fails(url, Exit.REFUSED, "policy", "apply", edge)
    assert json.loads(fine(url, "policy", "show", "-o", "json")) == []
    (given,) = json.loads(fine(url, "policy", "apply", edge, "--yes", "-o", "json"))
    assert (given["hostname"], given["generation"], given["settings"]) == ("alpha", 1, 1)
    assert json.loads(fine(url, "policy", "apply", edge, "--yes", "-o", "json")) == []
    (stored,) = json.loads(fine(url, "policy", "show", "-o", "json"))
    assert (stored["name"], stored["text"]) == ("edge", POLICY)
    (line,) = json.loads(fine(url, "policy", "show", "edge", "-o", "json"))
    assert (line["hostname"], line["status"], line["outcome"], line["knob"]) == ("alpha", "pending", "pending", "rings")
    assert json.loads(fine(url, "hosts", "-o", "json"))[0]["status"] == "pending"
    assert "rx=4096" in fine(url, "policy", "plan", "edge")
    Path(edge).write_text(POLICY.replace("rx: max", "rx: 512"))
    (given,) = json.loads(fine(url, "policy", "apply", edge, "--yes", "-o", "json"))
    assert given["generation"] == 2
    assert "say --yes" in fails(url, Exit.REFUSED, "policy", "rm", "edge")
    (given,) = json.loads(fine(url, "policy", "rm", "edge", "--yes", "-o", "json"))
    assert (given["generation"], given["settings"]) == (3, 0)


def test_a_policy_that_only_warns_needs_no_question(url: str, edge: str) -> None:
    Path(edge).write_text(POLICY + "mode: warn\n")
    assert "alpha" in fine(url, "policy", "apply", edge)


def test_a_conflict_is_decided(tmp_path: Path) -> None:
    for verb, state in (("accept", "accepted"), ("reject", "rejected")):
        url = filled(tmp_path / f"{verb}.db")
        (decided,) = json.loads(fine(url, "conflicts", verb, "1", "--yes", "-o", "json"))
        assert (decided["state"], decided["host_id"]) == (state, "host-01")
        assert json.loads(fine(url, "conflicts", "list", "-o", "json")) == []


def on_a_terminal(url: str, arguments: Sequence[str], answer: str) -> tuple[int, str]:
    """Exit code and everything that was shown, with `answer` typed at the question."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"RACKHAND_DB": url, "TERM": "xterm"})
        os.execv(sys.executable, [*ENTRY, *arguments])  # noqa: S606 - in the forked child
    shown = b""
    os.write(terminal, answer.encode())
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode("utf-8", "replace")


def test_a_question_is_asked_on_a_terminal_and_no_is_no(url: str, edge: str) -> None:
    code, shown = on_a_terminal(url, ["policy", "apply", edge], "n\n")
    assert (code, "[y/N]" in shown, "nothing was changed" in shown) == (Exit.REFUSED, True, True)
    assert json.loads(fine(url, "policy", "show", "-o", "json")) == []
    code, shown = on_a_terminal(url, ["policy", "apply", edge], "y\n")
    assert (code, "alpha" in shown) == (0, True)


def test_tables_on_a_terminal_are_drawn_and_pass_no_escape_of_a_host(url: str) -> None:
    code, shown = on_a_terminal(url, ["events"], "")
    assert code == 0
    assert "─" in shown
    assert "owned" not in shown
    assert "\x1b[2J" not in shown


def test_events_follow_what_comes(url: str) -> None:
    arguments = [*ENTRY, "events", "--follow", "-o", "json", "--db", url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        first = [json.loads(following.stdout.readline()) for _ in range(6)]
        engine = open_engine(url)
        with writing(engine) as conn:
            rows(
                conn,
                "INSERT INTO event (host_id, at_ms, kind, severity, text) VALUES ('host-01', 1, 'x.y', 'info', 'new')",
            )
        engine.dispose()
        fresh = json.loads(following.stdout.readline())
        assert fresh["text"] == "new"
        assert fresh["id"] > max(event["id"] for event in first)
        following.send_signal(2)
        assert following.wait(30) == Exit.INTERRUPTED


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_and_words(url: str, shell: str) -> None:
    environment = {**os.environ, "RACKHAND_DB": url, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    call = functools.partial(subprocess.run, capture_output=True, text=True, check=False)
    script = call([*ENTRY, "--show-completion", shell], env=environment)
    assert (script.returncode, "_RACKHAND_COMPLETE" in script.stdout) == (0, True)

    def words(line: str) -> str:
        asked = {"_RACKHAND_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()))}
        asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        return str(call(ENTRY, env={**environment, **asked}).stdout)

    assert "findings" in words("rackhand ")
    assert "alpha" in words("rackhand host ")
    assert "alpha" not in words("rackhand host b") or shell == "bash"


def test_ten_thousand_hosts_are_listed_whole_and_in_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'many.db'}"
    migrate.upgrade(url)
    engine = open_engine(url)
    many = [{"host_id": f"h{number:05}", "hostname": f"node{number:05}", "threads": number} for number in range(10_000)]
    with writing(engine) as conn:
        conn.execute(models.host.insert(), many[::-1])
    engine.dispose()
    assert [line.split()[0] for line in fine(url, "hosts").splitlines()[1:]] == [one["hostname"] for one in many]
    found = json.loads(fine(url, "hosts", "-o", "json"))
    assert [(one["host_id"], one["threads"]) for one in found] == [(one["host_id"], one["threads"]) for one in many]
    assert len(parsed("csv", fine(url, "hosts", "-o", "csv"))) == 10_000
    assert fine(url, "hosts", "-o", "csv") == fine(url, "hosts", "--output", "csv", "--db", url)
