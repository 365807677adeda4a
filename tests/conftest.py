"""What the whole suite shares: where the captures lie, and an honest account of what was skipped."""

import collections
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the goldens")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether what is said now is to be what is expected from now on."""
    return bool(request.config.getoption("--update"))


def skip_counts(reports: list[pytest.TestReport | pytest.CollectReport]) -> dict[str, int]:
    """Skips per reason."""
    counts: collections.Counter[str] = collections.Counter()
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        counts[reason.removeprefix("Skipped: ")] += 1
    return dict(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped, per reason."""
    counts = skip_counts(terminalreporter.stats.get("skipped", []))
    terminalreporter.section("skips per reason")
    for reason in sorted(counts):
        terminalreporter.line(f"{counts[reason]:5d}  {reason}")
    terminalreporter.line(f"{sum(counts.values()):5d}  in all")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI, as root, a skip hides a failure: the run fails."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and exitstatus == 0 and os.environ.get("CI") == "true" and os.geteuid() == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The lab's tests come last: until then its server is not there to take processor time from the others."""
    items.sort(key=lambda item: item.get_closest_marker("lab") is not None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """The captures of real hardware: RACKHAND_DATA, else ../shared/data beside the project."""
    folder = Path(os.environ.get("RACKHAND_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the captures of real hardware are not here (RACKHAND_DATA, ../shared/data)")
    return folder
