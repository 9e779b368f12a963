"""An inventory as Ansible sees it: asked of Ansible's own code, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celium_ops.base.errors import CeliumError, UsageError
from celium_ops.base.paths import collection_dir, collections_path
from celium_ops.base.processes import bound
from celium_ops.fleet import cache
from celium_ops.fleet.contract import Contract, computed_variables, load_contracts, raw_contract

PREFIXES = ("celium_", "executor_", "firewall_", "miner_", "validator_", "nvidia_docker_", "gpu_proof_")
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

MASK = "MASKED"
"""What stands for a secret; it is the same in a URI, where most signs would be percent-encoded."""

HELPER = Path(__file__).with_name("ansible_inventory.py")


@dataclass(frozen=True)
class Located:
    """A templated value and where the inventory says it; ``file`` is null for a role's default."""

    value: Any
    file: str | None = None
    line: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Environment:
    """The environment files of one host by name, or why there are none."""

    files: dict[str, str] = field(repr=False)
    error: str | None = None


@dataclass(frozen=True)
class ResolvedHost:
    """A host of the inventory: its groups and its variables, defaults of its roles included.

    ``own_keys`` of a host that has no role are the names of its variables, but for those of the group ``all``.
    """

    name: str
    groups: tuple[str, ...]
    variables: dict[str, Located]
    own_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class DuplicateKey:
    """A key that stands twice in one mapping of a file: Ansible keeps the last value, and ``lost`` is gone.

    ``where`` is the path of the mapping, empty for the file's own; ``first`` and ``again`` are line and column.
    """

    file: str
    key: str
    where: str
    first: tuple[int, int]
    again: tuple[int, int]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """An inventory as Ansible sees it: its hosts by name, and the keys that its files give twice."""

    hosts: dict[str, ResolvedHost]
    duplicates: tuple[DuplicateKey, ...] = ()


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
    """Return the hosts of an inventory, by name; raises what ``resolve_all`` does."""
    return resolve_all(inventory).hosts


def resolve_all(inventory: Path) -> Resolved:
    """Return the hosts of an inventory, and the keys that its files give twice.

    Ansible is asked only if anything that its last answer was made of has changed (``cache.py``).

    Raises:
        UsageError: the inventory is missing, or Ansible cannot read it.
        CeliumError: Ansible itself does not work here.
    """
    must_exist(inventory)
    question, environment = _question(inventory), _environment()
    hosts, duplicates = cache.recall(inventory, question, environment), ()
    if hosts is None:
        answer = _answer(inventory, question, environment)
        hosts, duplicates = answer["hosts"], answer["duplicates"]
        if answer["witness"]["cacheable"]:  # it is not while there are duplicates
            cache.keep(inventory, question, environment, answer["witness"]["seen"], hosts)
    return Resolved({name: _host(name, host) for name, host in hosts.items()}, tuple(map(_duplicate, duplicates)))


def _question(inventory: Path) -> dict[str, Any]:
    return {
        "inventory": str(inventory.absolute()),
        "prefixes": [*PREFIXES, *CONNECTION],
        "defaults": _defaults_by_group(),
    }


def _environment() -> dict[str, str]:
    """Return the environment that Ansible is asked in."""
    return {**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections_path()}


def _answer(inventory: Path, question: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    answer = _ask(question, environment)
    if answer["error"]:
        error = answer["error"]
        raise UsageError(
            f"Ansible cannot read the inventory: {error['message']}",
            file=error["file"] or str(inventory),
            line=error["line"],
            code="unreadable-inventory",
        )
    return answer


def environments(inventory: Path, *, masked: bool) -> dict[str, Environment]:
    """Return the environment files that each host with a role would get, by host.

    Ansible renders them, in the same process as the rest of an inventory, from the roles' own template and variables:
    so they are the bytes that a deploy writes, but for what is masked.

    Args:
        inventory: the inventory.
        masked: put ``MASK`` in the place of every secret. Without, a password that is still to be generated is empty.

    Raises:
        UsageError: the inventory is missing, or Ansible cannot read it.
        CeliumError: Ansible itself does not work here.
    """
    must_exist(inventory)
    contracts = load_contracts()
    roles = {contract.group: _environment_question(contract) for contract in contracts.values() if contract.computed}
    template = str(collection_dir() / "templates" / "env.j2")
    wish = {"template": template, "mask": MASK if masked else None, "groups": roles}
    hosts = _answer(inventory, _question(inventory) | {"environments": wish}, _environment())["hosts"]
    found = {name: host["environment"] for name, host in hosts.items() if host["environment"]}
    return {name: Environment(**environment) for name, environment in found.items()}


def _environment_question(contract: Contract) -> dict[str, Any]:
    """Return what the environment files of a role are made of: its raw contract and the variables of its tasks."""
    raw = raw_contract(contract.role)
    variables = computed_variables("common") | computed_variables(contract.role)
    return {
        "contract": raw["variables"] | raw["computed"],
        "variables": variables,
        "files": variables["_common_stack_files"],
        "generated": [name for name, computed in contract.computed.items() if computed.generated],
        "secrets": [name for name, variable in contract.variables.items() if variable.secret],
    }


def _defaults_by_group() -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for contract in load_contracts().values():
        groups.setdefault(contract.group, {}).update(contract.defaults())
    return groups


def _ask(question: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    # Ansible is a dependency of ours, so it lives beside us and our Python is its Python.
    done = subprocess.run(
        bound([sys.executable, str(HELPER)]),
        input=json.dumps(question),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise CeliumError(f"Ansible does not start: {lines[-1]}", remedy="check the installation: ansible --version")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _host(name: str, host: dict[str, Any]) -> ResolvedHost:
    variables = {key: Located(**entry) for key, entry in host["variables"].items()}
    return ResolvedHost(name, tuple(host["groups"]), variables, tuple(host["own_keys"] or ()))


def _duplicate(one: dict[str, Any]) -> DuplicateKey:
    return DuplicateKey(**one | {name: tuple(one[name]) for name in ("first", "again", "lost")})
