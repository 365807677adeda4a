"""The folder's README names every module, and no other."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "machine"


def test_the_readme_has_a_row_per_module() -> None:
    rows = re.findall(r"^\| `(\w+\.py)` \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in FOLDER.glob("*.py"))
