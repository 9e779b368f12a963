"""The roles' contracts: every variable of the inventory and of the .env files, each written down once.

A contract is ``roles/<role>/meta/contract.yml``. The roles' defaults, argument specifications and environment files
follow from it, and so do the checks of an inventory.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from celium_ops.base.paths import collection_dir

Dialect = Literal["celium", "lium"]
Kind = Literal[
    "str",
    "int",
    "float",
    "bool",
    "path",
    "name",
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


class Variable(BaseModel):
    """One variable of a role.

    ``env`` names the variable of the application's environment that it becomes (for all dialects, or one name for
    each), ``db_env`` the one of its database's. Without ``default`` and not ``required``, it may be left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Kind
    meaning: str
    default: Any = None
    required: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()
    dialects: tuple[Dialect, ...] = ("celium", "lium")
    env: str | dict[Dialect, str] | None = None
    db_env: str | None = None
    group: str | None = Field(default=None, description="for type host: the group it must be in")


class Computed(BaseModel):
    """A variable that a role works out itself, or takes from another contract, for the environment files.

    A ``generated`` one is a secret that is made at the first deploy, unless the variable of its name without the
    leading underscore gives it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str | None = None
    db_env: str | None = None
    generated: bool = False


class Contract(BaseModel):
    """What one role takes from the inventory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str
    summary: str
    variables: dict[str, Variable]
    computed: dict[str, Computed] = {}

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
    files = sorted(collection_dir().glob("roles/*/meta/contract.yml"))
    roles = {file.parents[1].name: yaml.safe_load(file.read_text()) for file in files}
    return {role: Contract(role=role, **content) for role, content in roles.items()}


def computed_variables(role: str) -> dict[str, Any]:
    """Return a role's own variables as they stand in its ``vars``, Jinja and all; those of a big role fill a folder."""
    top = collection_dir() / "roles" / role / "vars"
    found: dict[str, Any] = {}
    for file in (top / "main.yml", *sorted((top / "main").glob("*.yml"))):
        found |= yaml.safe_load(file.read_text()) if file.exists() else {}
    return found


@functools.cache
def all_variables() -> dict[str, Variable]:
    """Return the variables of all roles, by name; no two roles share one."""
    return {name: item for contract in load_contracts().values() for name, item in contract.variables.items()}
