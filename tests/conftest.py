"""Shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# celium-ops, ansible and ansible-playbook are those of the environment the tests run in, however pytest was started.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# A shell that starts us in the background has interrupts ignored, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long a machine takes for an example says nothing of our code: others may be at work on it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

BESIDE = {"test_docker_sources.py", "test_lab.py", "test_molecule.py", "test_standins.py"}
"""What `make test` runs on its second worker, with the integration tests: on hosts that no other test needs."""
BY_CLOCK = {"test_gpu.py", "test_gpu_examination.py"}
"""What is judged by clocks runs last, when the second worker is done."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in a hook of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of one fleet on one worker, in their order, and the others on another."""
    items.sort(key=lambda item: item.path.name in BY_CLOCK)
    for item in items:
        beside = item.path.name in BESIDE or item.path.parent.name == "integration"
        group = "beside" if beside and item.path.name not in BY_CLOCK else "fleet"
        item.add_marker(pytest.mark.xdist_group(group))
