"""Shared by the unit tests."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
from ansible_collections.celium.ops.plugins.module_utils import miner_log, networks, probe, tenancy


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give preflight's program for hosts as a module; what comes along to a host is there."""
    for module in (tenancy, probe, networks, miner_log):
        monkeypatch.setitem(sys.modules, module.__name__.rpartition(".")[2], module)
    return importlib.import_module("celium_ops.remote.on_host.survey")
