"""The short form of the fault tests is part of every test run; `course.py faults` is the full one."""

import datetime

import faulty
import pytest
from hypothesis import HealthCheck, settings

slow = {"deadline": datetime.timedelta(seconds=20), "suppress_health_check": list(HealthCheck), "database": None}
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
    """After a full run, a table: how many faults each test injected, and after how many something was lost."""
    if not config.getoption("--faults-full"):
        return
    table = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            injected = dict(report.user_properties).get("injected", 0)
            if report.when == "call" and injected:
                name = report.location[2].split("[")[0].removeprefix("test_").replace("_", " ")
                row = table.setdefault(name, [0, 0])
                row[0] += injected
                row[1] += outcome == "failed"  # a test ends at the first fault that costs something
    terminalreporter.section("faults injected, and how many of them cost something")
    for name, (injected, lost) in [
        *table.items(),
        ("all", [sum(column) for column in zip(*table.values(), strict=True)]),
    ]:
        terminalreporter.line(f"{injected:>7,} {lost:>3}  {name}")
