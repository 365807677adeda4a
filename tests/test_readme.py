"""The front page keeps its word: its commands exist, its policy is right, its screen is the one that is printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tuners.policy import lint, parse_policy

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def page() -> str:
    return (Path(__file__).parents[1] / "README.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_its_policy_has_no_mistake(page: str) -> None:
    for text in blocks(page, "yaml"):
        assert lint(text) == []
        assert parse_policy(text).name == "edge"


def test_its_commands_exist(page: str) -> None:
    commands = [line[2:].split("#")[0].split() for block in blocks(page, "console") for line in block.splitlines()]
    verbs = {tuple(word for word in words if re.fullmatch(r"[a-z-]+", word)) for words in commands}
    assert {("make", "up"), ("make", "test"), ("rackhand", "policy", "plan")} <= verbs
    for verb in sorted(verbs):
        if verb[0] == "make":
            argv = ["make", "--dry-run", "--silent", *verb[1:]]
        else:
            known = 3 if verb[1] == "policy" else 2
            words = [word for word in verb[1:known] if not word.startswith("-")]
            argv = [str(BIN / verb[0]), *words, "--help"]
        done = subprocess.run(argv, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(verb)}: {done.stderr}"


def test_its_screen_is_the_one_that_is_printed(page: str, tmp_path: Path) -> None:
    shown = blocks(page, "text")[0]
    argv = [str(BIN / "rackhand"), "up", "--once", "--state", str(tmp_path / "up")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    heads = r"^(?:\S+|  [a-z]\w+(?=  ))"  # sections, and the words that begin a row
    constant = {"network", "where", "try", "  host", "  cpu", "  memory", "  broker", "  database", "  logs"}
    for text in (shown, done.stdout):
        assert constant <= set(re.findall(heads, text, re.MULTILINE)), text
    assert "observing: nothing on this host is changed" in done.stdout


def test_every_room_is_linked(page: str, root: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page)
    assert [link for link in links if not (root / link).exists()] == []
    hidden = {path.name for path in root.glob(".*")}
    rooms = {path.parent.name for path in root.glob("*/README.md")} - {"requirements", "tests"} - hidden
    assert rooms <= {Path(link).parts[0] for link in links}
