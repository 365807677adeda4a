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
from collections.abc import Sequence
from pathlib import Path

import pytest

from hwdb import migrate, models
from hwdb.cli.failure import Exit
from hwdb.db import open_engine, rows, writing
from tests.hwdb.cli.inventory import ENTRY, FORMS, fails, fine, parsed, run


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
        assert len(done.stderr.splitlines()) == 1, done.stderr
    nothing = run(url)
    assert (nothing.returncode, "findings" in nothing.stderr) == (Exit.USAGE, True)


def test_a_reader_that_stops_early_is_no_error(url: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" | head -n 1', "sh", *ENTRY, "events", "-o", "json"],
        env={**os.environ, "RACKHAND_DB": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("[", "")


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
