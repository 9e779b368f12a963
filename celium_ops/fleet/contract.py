"""The roles' contracts: every variable of the inventory and of the .env files, each written down once.

A contract is ``roles/<role>/meta/contract.yml``. The roles' defaults, argument specifications and environment files
follow from it, and so do the checks of an inventory.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from celium_ops.base.paths import collection_dir

Dialect = Literal["celium", "lium"]
Kind = Literal[
    "str",
    "int",
    "count",
    "float",
    "amount",
    "bool",
    "path",
    "name",
    "db_name",
    "mount_name",
    "mount_path",
    "list",
    "dict",
    "port",
    "port_range",
    "port_mappings",
    "ss58",
    "hotkeys",
    "percent",
    "image",
    "registry",
    "host",
    "device",
    "pools",
    "sysctls",
]

GROUP_OF_ROLE = {"miner": "miners", "executor": "executors", "gpu_proof": "executors", "validator": "validators"}
"""The inventory group whose hosts a role is for; the other roles are for all hosts."""


@dataclass(frozen=True)
class Variable:
    """One variable of a role.

    ``env`` names the variable of the application's environment that it becomes (for all dialects, or one name for
    each), ``db_env`` the one of its database's; ``group``, for type host, the group it must be in. Without ``default``
    and not ``required``, it may be left out.
    """

    type: Kind
    meaning: str
    default: Any = None
    required: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()
    dialects: tuple[Dialect, ...] = ("celium", "lium")
    env: str | dict[Dialect, str] | None = None
    db_env: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Computed:
    """A variable that a role works out itself, or takes from another contract, for the environment files.

    A ``generated`` one is a secret that is made at the first deploy, unless the variable of its name without the
    leading underscore gives it.
    """

    env: str | None = None
    db_env: str | None = None
    generated: bool = False


@dataclass(frozen=True)
class Contract:
    """What one role takes from the inventory."""

    role: str
    summary: str
    variables: dict[str, Variable]
    computed: dict[str, Computed] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Return the inventory group of the role's hosts; ``all`` for a role that every host gets."""
        return GROUP_OF_ROLE.get(self.role, "all")

    def defaults(self) -> dict[str, Any]:
        """Return what goes into ``defaults/main.yml``: everything but what the operator must give."""
        return {
            name: variable.default
            for name, variable in self.variables.items()
            if variable.default is not None or not variable.required
        }


@functools.cache
def load_contracts() -> dict[str, Contract]:
    """Return the contracts of all roles, by role."""
    roles = (file.parents[1].name for file in sorted(collection_dir().glob("roles/*/meta/contract.yml")))
    return {role: _contract(role, raw_contract(role)) for role in roles}


def raw_contract(role: str) -> dict[str, Any]:
    """Return the contract of a role as it is written; ``scripts/generate.py`` has seen to it that it is one."""
    return _read(collection_dir() / "roles" / role / "meta" / "contract.yml")


def _contract(role: str, content: dict[str, Any]) -> Contract:
    variables = {name: _variable(**item) for name, item in content["variables"].items()}
    computed = {name: Computed(**item) for name, item in content.get("computed", {}).items()}
    return Contract(role, **content | {"variables": variables, "computed": computed})


def _variable(**item: Any) -> Variable:
    return Variable(**item | {name: tuple(item[name]) for name in ("choices", "dialects") if name in item})


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    return found


def computed_variables(role: str) -> dict[str, Any]:
    """Return a role's own variables as they stand in its ``vars``, Jinja and all; those of a big role fill a folder."""
    top = collection_dir() / "roles" / role / "vars"
    found: dict[str, Any] = {}
    for file in (top / "main.yml", *sorted((top / "main").glob("*.yml"))):
        found |= _read(file) if file.exists() else {}
    return found


def validators_image() -> str:
    """Return the name by which validators run the executor's image on its host."""
    return str(computed_variables("executor")["_executor_public_name"])


@functools.cache
def all_variables() -> dict[str, Variable]:
    """Return the variables of all roles, by name; no two roles share one."""
    return {name: item for contract in load_contracts().values() for name, item in contract.variables.items()}
