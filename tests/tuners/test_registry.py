"""The table of knobs is whole, and its README says so."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import tuners
from tuners.findings import RULES
from tuners.policy import lint
from tuners.registry import ALL, BY_NAME


def test_every_module_with_a_name_is_in_the_table() -> None:
    modules = [import_module(f"tuners.{found.name}") for found in pkgutil.iter_modules(tuners.__path__)]
    assert {module.NAME for module in modules if hasattr(module, "NAME")} == set(BY_NAME)


def test_a_modules_file_is_its_name() -> None:
    assert [import_module(f"tuners.{tuner.NAME}") for tuner in ALL] == list(ALL)


def test_the_readme_has_a_row_for_every_knob_with_its_values(root: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (shape|place) \| (.*)$", (root / "tuners/README.md").read_text(), re.MULTILINE)
    stages = {name: stage for name, stage, _ in rows}
    assert stages == {tuner.NAME: tuner.STAGE for tuner in ALL}
    for name, _, rest in rows:
        values = set(BY_NAME[name].VALUES) if name != "offloads" else {"gro", "tso"}
        assert {value for value in values if f"`{value}`" not in rest} == set()


def test_the_readme_names_every_rule(root: Path) -> None:
    text = (root / "tuners/README.md").read_text()
    assert {rule.__name__ for rule in RULES if f"`{rule.__name__}`" not in text} == set()


def test_the_readmes_policy_lints(root: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (root / "tuners/README.md").read_text(), re.DOTALL)
    assert [lint(example) for example in examples] == [[]]
