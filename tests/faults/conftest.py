"""The short form of the fault tests is part of every test run; `course.py faults` is the full one."""

import datetime
import itertools

import faulty
import pytest
from hypothesis import HealthCheck, settings

# A case that takes two minutes hangs; nothing is said about slowness.
slow = {"deadline": datetime.timedelta(minutes=2), "suppress_health_check": list(HealthCheck), "database": None}
settings.register_profile("short", max_examples=100, derandomize=True, **slow)
settings.register_profile("full", max_examples=2_000, **slow)


def pytest_configure(config):
    settings.load_profile("full" if config.getoption("--faults-full") else "short")


@pytest.fixture(scope="session")
def full(request):
    return request.config.getoption("--faults-full")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Attach to each test how many faults it injected."""
    faulty.INJECTED.clear()
    try:
        return (yield)
    finally:
        item.user_properties.append(("injected", len(faulty.INJECTED)))


def pytest_terminal_summary(terminalreporter, config):
    """After a full run, a table: how many faults each test injected, and how many of them cost something."""
    if not config.getoption("--faults-full"):
        return
    terminalreporter.section("faults")
    terminalreporter.line("injected  lost  fault")
    total = [0, 0]
    for name, reports in itertools.groupby(_with_faults(terminalreporter), key=_name):
        reports = list(reports)
        counts = sum(_injected(report) for report in reports), sum(report.failed for report in reports)
        total = [before + count for before, count in zip(total, counts, strict=True)]
        terminalreporter.line(f"{counts[0]:>8,}  {counts[1]:>4}  {name}")  # a test ends at the first that is lost
    terminalreporter.line(f"{total[0]:>8,}  {total[1]:>4}  in all")


def _with_faults(terminalreporter) -> list:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    return sorted((report for report in reports if _injected(report)), key=_name)


def _injected(report) -> int:
    return dict(report.user_properties).get("injected", 0) if report.when == "call" else 0


def _name(report) -> str:
    """`test_a_full_disk_harms_no_figure` as a sentence."""
    return report.location[2].split("[")[0].removeprefix("test_").replace("_", " ")
