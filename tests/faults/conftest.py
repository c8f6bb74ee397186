"""The short form of the fault tests is part of every test run; `course.py faults` is the full one."""

import datetime

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
