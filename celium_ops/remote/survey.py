"""What preflight asks of hosts: one survey each, all at once."""

from __future__ import annotations

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from celium_ops.fleet.contract import computed_variables, validators_image
from celium_ops.fleet.model import Host
from celium_ops.remote.program import program, shared
from celium_ops.remote.ssh import ask

DEADLINE = 40.0

MODULES = ("tenancy", "probe", "networks", "miner_log")
"""What goes along to the host, in the order of their imports."""
_GPU_MODULES = ("pynvml", "celium_ops.gpu.nvml", "celium_ops.gpu.views")


@dataclass(frozen=True)
class Seen:
    """What a host showed; ``facts`` are null when it did not answer, for the reason in ``error``.

    ``at`` is the time here when the answer came, in seconds since 1970.
    """

    facts: dict[str, Any] | None
    error: str | None
    at: float


def survey(hosts: Collection[Host]) -> dict[str, Seen]:
    """Look at hosts, all at once."""
    with_gpus = [host for host in hosts if host.role == "executor"]
    others = [host for host in hosts if host.role != "executor"]
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(_survey, (with_gpus, others), (True, False))
        return {name: seen for part in parts for name, seen in part.items()}


def _survey(hosts: Collection[Host], gpus: bool) -> dict[str, Seen]:
    commands = {host.name: ["python3", "-I", "-S", "-", json.dumps(_asked(host, gpus))] for host in hosts}
    answers = ask({host.name: host.connection for host in hosts}, commands, _program(gpus), DEADLINE)
    found = {}
    for name, answer in answers.items():
        try:
            facts = None if answer.output is None else json.loads(answer.output)
            found[name] = Seen(facts, answer.error, answer.at)
        except ValueError:
            found[name] = Seen(None, f"the survey said something else: {str(answer.output).strip()[:200]}", answer.at)
    return found


def _asked(host: Host, gpus: bool) -> dict[str, Any]:
    return {
        "role": host.role,
        "stack": host.stack,
        "wallets": str(host.values.get(f"{host.role}_wallet_dir", "/root/.bittensor/wallets")),
        "gpus": gpus,
        "named": _named(host) if host.role == "executor" else {},
        **_known(),
    }


def _named(host: Host) -> dict[str, str]:
    """Return the names of the executor's image: the inventory's, and the one that validators use."""
    return {"wanted": str(host.values.get("executor_image")), "validators": validators_image()}


@cache
def _known() -> dict[str, list[str]]:
    """Return what roles know: the patterns of the packages that deploys hold, and the units that keep a clock."""
    role = computed_variables("nvidia_docker")
    return {
        "packages": role["_nvidia_docker_guarded"],
        "kernel_packages": role["_nvidia_docker_guarded_kernel"],
        "keepers": computed_variables("common")["_common_clock_keepers"],
    }


@cache
def _program(gpus: bool) -> str:
    names = (*MODULES, *(("celium_ops", "celium_ops.gpu", *_GPU_MODULES) if gpus else ()))
    return program("survey", {name: _source(name) for name in names})


def _source(name: str) -> str:
    if name in MODULES:
        return shared(name)
    if name not in _GPU_MODULES:
        return ""
    file = import_module(name).__file__
    return Path(str(file)).read_text()
