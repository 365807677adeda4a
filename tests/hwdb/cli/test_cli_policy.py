"""The verbs that change what hosts are to be, as a process."""

import json
from pathlib import Path

import pytest

from hwdb.cli.failure import Exit
from tests.hwdb.cli.inventory import FORMS, POLICY, fails, filled, fine, parsed, run


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
