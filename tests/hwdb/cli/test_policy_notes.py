"""What `policy apply` says beside the list of hosts, and URLs that name no database."""

from pathlib import Path

import pytest

from hwdb.cli.failure import Exit
from tests.hwdb.cli.inventory import FORMS, fails, parsed, run

TOO_MUCH = "name: edge\nmatch: [labels.role=edge]\nknobs: {rings: {rx: 99999}}\n"
NOWHERE = "name: edge\nmatch: [labels.role=nowhere]\nknobs: {rings: {rx: max}}\n"


def written(folder: Path, text: str) -> str:
    path = folder / "policy.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("form", FORMS)
def test_what_no_matching_host_can_have_is_said_when_it_is_stored(url: str, tmp_path: Path, form: str) -> None:
    done = run(url, "policy", "apply", written(tmp_path, TOO_MUCH), "--yes", "-o", form)
    assert done.returncode == 0
    assert len(parsed(form, done.stdout)) == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("impossible on alpha eth0 rx: rx=99999 is more than the 4096 this driver offers")


def test_the_question_says_what_is_impossible(url: str, tmp_path: Path) -> None:
    line = fails(url, Exit.REFUSED, "policy", "apply", written(tmp_path, TOO_MUCH))
    assert "rx=99999 is more than the 4096" in line


def test_a_policy_that_matches_no_host_any_more_says_so_and_names_the_hosts_it_leaves(url: str, tmp_path: Path) -> None:
    assert run(url, "policy", "apply", written(tmp_path, TOO_MUCH), "--yes").returncode == 0
    done = run(url, "policy", "apply", written(tmp_path, NOWHERE), "--yes")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split() == ["alpha", "2", "0"]
    assert done.stderr == "edge: no host matches labels.role=nowhere\n"


@pytest.mark.parametrize("other", ["gibberish", "mysql://me:secret@db/x", "sqlite://", "sqlite:///"])
@pytest.mark.parametrize("verb", [["hosts"], ["db", "upgrade"]], ids=" ".join)
def test_a_url_of_no_database_is_one_clear_line(other: str, verb: list[str]) -> None:
    line = fails(other, Exit.DATABASE, *verb)
    assert "is no database here: sqlite:///PATH or postgresql://" in line
    assert "secret" not in line
