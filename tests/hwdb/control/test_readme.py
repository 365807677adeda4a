"""hwdb/README.md against the code: verbs, exit codes, metrics that are there."""

import itertools
import re
from pathlib import Path
from typing import Any

import typer

from hwdb.cli.failure import Exit
from hwdb.cli.verbs import app


def verbs(command: Any, before: str = "") -> set[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return {before}
    return {verb for name, each in inner.items() for verb in verbs(each, f"{before} {name}".strip())}


def rows(root: Path, title: str) -> list[list[str]]:
    section = (root / "hwdb" / "README.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_verb_has_its_row(root: Path) -> None:
    known = verbs(typer.main.get_command(app))
    assert {_verb(row[0]) for row in rows(root, "Verbs")} == known


def _verb(cell: str) -> str:
    """The words of a usage line, up to the first that is not one of its own."""
    usage = re.sub(r"\[[^]]*\]|\bHOST\b", " ", cell.partition("`")[2].partition("`")[0])
    return " ".join(itertools.takewhile(re.compile(r"[a-z]+").fullmatch, usage.split()))


def test_every_verb_takes_the_forms(root: Path) -> None:
    def leaves(command: Any) -> list[Any]:
        return [leaf for each in getattr(command, "commands", {}).values() for leaf in leaves(each)] or [command]

    interactive = {"console"}
    for leaf in leaves(typer.main.get_command(app)):
        assert leaf.name in interactive or any("-o" in option.opts for option in leaf.params), leaf.name


def test_every_exit_code_has_its_row(root: Path) -> None:
    assert {(int(row[0]), row[1]) for row in rows(root, "Exit codes")} == {(code.value, code.name) for code in Exit}
