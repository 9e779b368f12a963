"""Shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# celium-ops, ansible and ansible-playbook are those of the environment the tests run in, however pytest was started.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# A shell that starts us in the background has interrupts ignored, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long a machine takes for an example says nothing of our code: others may be at work on it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

BESIDE = {"test_disk.py", "test_docker_sources.py", "test_driver.py", "test_lab.py", "test_standins.py"}
"""What `make test` runs on its second worker, with the integration tests: it needs no fleet, at most own hosts."""
BY_CLOCK = {"test_gpu.py", "test_gpu_examination.py"}
"""What is judged by clocks runs last, when the second worker is done."""


class TwoGroups(LoadScopeScheduling):
    """Keeps the tests of one fleet on one worker, in their order, and the others on another; spreads those of units."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        if file.parent.name == "unit":
            return str(file)
        beside = file.name in BESIDE or file.parent.name == "integration"
        return "beside" if beside and file.name not in BY_CLOCK else "fleet"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> TwoGroups:
    """Let `pytest -n 2` use it; xdist's own groups (3.8) do not work with pytest 9.2."""
    return TwoGroups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring what is judged by clocks to the end."""
    items.sort(key=lambda item: item.path.name in BY_CLOCK)
