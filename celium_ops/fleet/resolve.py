"""An inventory as Ansible sees it: asked of Ansible's own code, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celium_ops.base.errors import CeliumError, UsageError
from celium_ops.fleet.contract import load_contracts

PREFIXES = ("celium_", "executor_", "miner_", "validator_", "nvidia_docker_")
"""Keys of the inventory that are ours: an unknown one is an error."""

CONNECTION = (
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_private_key_file",
    "ansible_ssh_private_key_file",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_become",
    "ansible_connection",
)
"""Ansible's own keys that say how a host is reached."""

HELPER = Path(__file__).with_name("ansible_inventory.py")


@dataclass(frozen=True)
class Located:
    """A templated value and where the inventory says it; ``file`` is null for a role's default."""

    value: Any
    file: str | None = None
    line: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class ResolvedHost:
    """A host of the inventory: its groups and its variables, defaults of its roles included."""

    name: str
    groups: tuple[str, ...]
    variables: dict[str, Located]


def must_exist(inventory: Path) -> None:
    """Make sure that there is an inventory.

    Raises:
        UsageError: there is none.
    """
    if not inventory.exists():
        raise UsageError(
            f"there is no inventory {inventory}",
            remedy="name one with -i, or set CELIUM_OPS_INVENTORY",
            file=str(inventory),
            code="no-inventory",
        )


def resolve(inventory: Path) -> dict[str, ResolvedHost]:
    """Return the hosts of an inventory, by name.

    Raises:
        UsageError: the inventory is missing, or Ansible cannot read it.
        CeliumError: Ansible itself does not work here.
    """
    must_exist(inventory)
    question = {
        "inventory": str(inventory.absolute()),
        "prefixes": [*PREFIXES, *CONNECTION],
        "defaults": _defaults_by_group(),
    }
    answer = _ask(question)
    if answer["error"]:
        error = answer["error"]
        raise UsageError(
            f"Ansible cannot read the inventory: {error['message']}",
            file=error["file"] or str(inventory),
            line=error["line"],
            code="unreadable-inventory",
        )
    return {name: _host(name, host) for name, host in answer["hosts"].items()}


def _defaults_by_group() -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for contract in load_contracts().values():
        groups.setdefault(contract.group, {}).update(contract.defaults())
    return groups


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    # Ansible is a dependency of ours, so it lives beside us and our Python is its Python.
    done = subprocess.run(
        [sys.executable, str(HELPER)], input=json.dumps(question), capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise CeliumError(f"Ansible does not start: {lines[-1]}", remedy="check the installation: ansible --version")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _host(name: str, host: dict[str, Any]) -> ResolvedHost:
    variables = {key: Located(**entry) for key, entry in host["variables"].items()}
    return ResolvedHost(name=name, groups=tuple(host["groups"]), variables=variables)
