"""The table of knobs is whole, and its README says so."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import tuners
from collectors.registry import by_name
from tuners import planner
from tuners.about import Stage, row
from tuners.findings import RULES
from tuners.policy import lint
from tuners.registry import ALL, BY_NAME

SHOWN: dict[str, set[str]] = {"offloads": {"gro", "tso"}, "sysctl_net": {"=> N"}}  # of these not every value
RULE = "|---|---|---|---|---|---|---|---|---|\n"


def test_every_module_with_a_name_is_in_the_table() -> None:
    modules = [import_module(f"tuners.{found.name}") for found in pkgutil.iter_modules(tuners.__path__)]
    assert {module.NAME for module in modules if hasattr(module, "NAME")} == set(BY_NAME)


def test_a_modules_file_is_its_name() -> None:
    assert [import_module(f"tuners.{tuner.NAME}") for tuner in ALL] == list(ALL)


def test_the_readme_has_the_row_of_each_word_for_word(root: Path, update: bool) -> None:
    path = root / "tuners/README.md"
    text = path.read_text()
    rows = [row(tuner.NAME, tuner.ABOUT) for tuner in ALL]
    before, _, rest = text.partition(RULE)
    after = rest[rest.index("\n\n") :]
    if update:
        path.write_text(before + RULE + "\n".join(rows) + after)
    assert rest.removesuffix(after).splitlines() == rows


def test_the_readme_says_what_each_value_means(root: Path) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (`.*)$", (root / "tuners/README.md").read_text(), re.MULTILINE))
    assert set(BY_NAME) <= set(rows)
    for name in BY_NAME:
        rest = rows[name]
        values = SHOWN.get(name) or set(BY_NAME[name].VALUES)
        assert {value for value in values if f"`{value}`" not in rest} == set()


def test_stages_are_in_order_and_facts_are_collectors() -> None:
    order = list(Stage)
    stages = [order.index(tuner.ABOUT.stage) for tuner in ALL]
    assert stages == sorted(stages)
    named = {by_name(fact).NAME for tuner in ALL for fact in tuner.ABOUT.facts}
    assert planner.collectors(BY_NAME) == sorted({*named, *(by_name(fact).NAME for fact in planner.ALWAYS)})


def test_the_readme_names_every_rule(root: Path) -> None:
    text = (root / "tuners/README.md").read_text()
    assert {rule.__name__ for rule in RULES if f"`{rule.__name__}`" not in text} == set()


def test_the_readmes_policy_lints(root: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (root / "tuners/README.md").read_text(), re.DOTALL)
    assert examples
    assert [lint(example) for example in examples] == [[]] * len(examples)
