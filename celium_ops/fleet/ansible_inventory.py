# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve an inventory with Ansible's own code and print it as JSON: a program of its own, run by Ansible's Python.

It is the only file of celium-ops that imports ansible, hence its licence. Values, precedence, templating and vault
are Ansible's; this program adds the roles' defaults below everything else, so that a host shows what a role would see.

Reads one JSON object from stdin::

    {"inventory": "/path", "prefixes": ["executor_"], "defaults": {"executors": {"executor_ssh_port": 2200}}}

``defaults`` are keyed by group; the group ``all`` goes first. With ``environments`` it also renders the environment
files of each host, from the template and the variables that the roles use::

    {"environments": {"template": "/path/env.j2", "mask": null, "groups": {"executors": {
        "contract": {...}, "variables": {...}, "files": {".env": "env"}, "generated": ["_executor_db_password"],
        "secrets": ["executor_db_password"]}}}}

With a ``mask`` it takes the place of every secret; a generated password that nobody has generated yet is masked anyhow,
as asking must not make one. Writes one JSON object to stdout::

    {"hosts": {"gpu-1": {"groups": ["executors"], "variables": {"executor_ssh_port":
        {"value": 2200, "file": "/path", "line": 7, "error": null}},
        "environment": {"files": {".env": "..."}, "error": null}, "own_keys": null}},
     "error": null,
     "duplicates": [{"file": "/path", "key": "hosts", "where": "all", "first": [2, 3], "again": [9, 3], "lost": []}],
     "witness": {"cacheable": true, "reason": null, "seen": [["file", "/path", "<digest>"]]}}

A value that cannot be templated has an ``error``; ``error`` at the top means that nothing could be read. ``duplicates``
are the keys that a file gives twice (``duplicate_keys.py``). ``own_keys`` of a host that is in none of the groups of
``defaults`` are the names of its variables, but for those of the group ``all``; null for the other hosts. ``witness``
says what the answer was made of (``witness.py``).
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from celium_ops.fleet.duplicate_keys import duplicate_keys
from celium_ops.fleet.witness import Witness, before

# Ansible reads its configuration while it is imported, so that is watched too.
witness = Witness()
witness.watch()

os.environ.setdefault("ANSIBLE_INVENTORY_UNPARSED_FAILED", "1")
os.environ.setdefault("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "1")

from ansible import constants as C  # noqa: N812 - the environment must be set before ansible reads it
from ansible._internal._datatag._tags import Origin
from ansible._internal._templating._jinja_bits import AnsibleEnvironment
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import (
    cache_loader,
    filter_loader,
    init_plugin_loader,
    inventory_loader,
    lookup_loader,
    test_loader,
    vars_loader,
)
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible.vars.plugins import get_vars_from_inventory_sources
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

_OF_PLAYS = re.compile(
    r"ansible_(check_mode|diff_mode|facts|limit|play_\w+|role_names?|run_tags|search_path|skip_tags|verbosity)"
    r"|play_hosts|playbook_dir|role_(names?|path)"
)
"""What a template reads otherwise in a play, or in another program's: facts of the host, and how it is played."""
_INSTEAD = "give such hosts a group or a variable of their own, so that plan and deploy see the same"


class PlaysOnly:
    """What templates ask for that only a play knows; with a default they would be one thing here and another there."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def watch(self) -> None:
        """Start to watch what templates name, by itself or in something else (``hostvars``)."""
        before(Context, "resolve_or_missing", self._named)
        for way in ("getattr", "getitem"):
            before(AnsibleEnvironment, way, lambda _environment, _thing, name: self._note(name))

    def _named(self, context: Context, name: str) -> None:
        self._note(name)
        # Of the rest, what no inventory gives and no connection needs is a fact under its old name.
        if name.startswith("ansible_") and not _is_for_connections(name) and name not in context:
            self.asked.add(name)

    def _note(self, name: Any) -> None:
        if isinstance(name, str) and _OF_PLAYS.fullmatch(name):
            self.asked.add(name)


def _is_for_connections(name: str) -> bool:
    return name in C.COMMON_CONNECTION_VARS or name.startswith(("ansible_become", "ansible_ssh_"))


plays_only = PlaysOnly()


class Duplicates:
    """The keys that are given twice in the files that the inventory is made of, decrypted ones too."""

    def __init__(self) -> None:
        self._by_file: dict[str, list[dict[str, Any]]] = {}

    def watch(self) -> None:
        """Start to check each text that Ansible parses as YAML or JSON."""
        before(DataLoader, "load", self._check)

    def _check(self, _loader: DataLoader, data: str, file_name: str | None = None, **_: Any) -> None:
        if file_name and file_name not in self._by_file:  # two plugins may parse one file
            self._by_file[file_name] = duplicate_keys(str(data))

    def report(self) -> list[dict[str, Any]]:
        """Return the duplicates of all files."""
        return [{"file": file, **one} for file, found in self._by_file.items() for one in found]


duplicates = Duplicates()


def main() -> None:
    """Answer the question on stdin."""
    question = json.load(sys.stdin)
    loaders = (cache_loader, filter_loader, inventory_loader, lookup_loader, test_loader, vars_loader)
    witness.watch_templates(SandboxedEnvironment, loaders)
    plays_only.watch()
    duplicates.watch()
    if C.DEFAULT_JINJA2_EXTENSIONS:
        witness.refuse("there are extensions of Jinja")
    try:
        answer = {"hosts": resolve(question), "error": None}
    except AnsibleError as error:
        answer = {"hosts": {}, "error": describe(error)}
    if found := duplicates.report():
        witness.refuse("keys are given twice")
    json.dump(answer | {"duplicates": found, "witness": witness.report()}, sys.stdout, default=str)


def resolve(question: dict[str, Any]) -> dict[str, Any]:
    """Return every host with its groups and its templated variables."""
    init_plugin_loader()  # values name plugins of collections, and so does our template
    loader = DataLoader()
    if C.DEFAULT_VAULT_PASSWORD_FILE or C.DEFAULT_VAULT_IDENTITY_LIST:
        witness.refuse("there is a vault, and its secrets must not lie about")
        # Imported only when a vault is configured: it doubles the start-up time.
        from ansible.cli import CLI

        loader.set_vault_secrets(CLI.setup_vault_secrets(loader, C.DEFAULT_VAULT_IDENTITY_LIST, auto_prompt=False))
    inventory = InventoryManager(loader=loader, sources=[question["inventory"]])
    manager = VariableManager(loader=loader, inventory=inventory)
    defaults = {group: trusted(values) for group, values in question["defaults"].items()}
    hostvars = HostVars(inventory, manager, loader)
    hosts: dict[str, dict[str, Any]] = {}
    for host in inventory.get_hosts():
        groups = sorted(group.name for group in host.get_groups() if group.name != "all")
        known = [defaults.get(group, {}) for group in ["all", *groups]]
        variables = {key: value for layer in known for key, value in layer.items()}
        variables |= manager.get_vars(host=host) | {"hostvars": hostvars}
        hosts[host.name] = {"groups": groups, "variables": template(loader, variables, tuple(question["prefixes"]))}
        hosts[host.name]["own_keys"] = None if defaults.keys() & {*groups} else own_keys(loader, question, host)
        if "environments" in question:
            hosts[host.name]["environment"] = environment(loader, variables, question["environments"], groups)
    return hosts


def own_keys(loader: DataLoader, question: dict[str, Any], host: Any) -> list[str]:
    """Return the names of the variables that a host has from itself and from its groups other than ``all``."""
    owners = [*(group for group in host.get_groups() if group.name != "all"), host]
    beside = get_vars_from_inventory_sources(loader, [question["inventory"]], owners, "task")  # group_vars, host_vars
    return sorted({str(key) for owner in owners for key in owner.vars} | {str(key) for key in beside})


def trusted(value: Any) -> Any:
    """Mark our own defaults as templates; Ansible 2.19 and later template only what is trusted."""
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def template(loader: DataLoader, variables: dict[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Return the wanted variables, templated, each with the place it comes from."""
    templar = Templar(loader=loader, variables=variables)
    found = {}
    for key, raw in variables.items():
        if not key.startswith(prefixes):
            continue
        # A value carries its origin unless it is a bool or null; then the key's own is the best there is.
        origin = Origin.get_tag(raw) or Origin.get_tag(key)
        entry: dict[str, Any] = {"value": None, "error": None, "file": None, "line": None}
        if origin and origin.path:
            entry |= {"file": str(origin.path), "line": origin.line_num}
        plays_only.asked.clear()
        try:
            entry["value"] = templar.template(raw)
        except AnsibleError as error:
            entry["error"] = describe(error)["message"]
        if plays_only.asked:
            names = ", ".join(sorted(plays_only.asked))
            entry |= {"value": None, "error": f"it depends on {names}, which only a play knows: {_INSTEAD}"}
        found[str(key)] = entry
    return found


def environment(loader: DataLoader, variables: dict[str, Any], wish: dict[str, Any], groups: list[str]) -> Any:
    """Return the environment files of a host as its role would write them; null for a host without a role."""
    role = next((wish["groups"][group] for group in groups if group in wish["groups"]), None)
    if role is None:
        return None
    found: dict[str, Any] = {"files": {}, "error": None}
    own = variables | trusted(role["variables"]) | {"_common_stack_contract": role["contract"]}
    try:
        own |= dict.fromkeys(masked(Templar(loader=loader, variables=own), own, role, wish["mask"]), wish["mask"] or "")
        for file, kind in role["files"].items():
            templar = Templar(loader=loader, variables=own | {"_common_stack_env": kind, "_template": wish["template"]})
            text = templar.template(trust_as_template("{{ lookup('ansible.builtin.template', _template) }}"))
            found["files"][file] = text
    except AnsibleError as error:
        found = {"files": {}, "error": describe(error)["message"]}
    return found


def masked(templar: Templar, variables: dict[str, Any], role: dict[str, Any], mask: str | None) -> list[str]:
    """Return the variables whose values must not be shown, or cannot be."""
    if mask is not None:
        return [*role["generated"], *(name for name in role["secrets"] if variables.get(name) is not None)]
    folder = templar.template(trust_as_template("{{ celium_secrets_dir }}/{{ inventory_hostname }}"))
    kept = Path(os.path.expanduser(folder))  # noqa: PTH111 - pathlib raises where a user is not known
    # A generated password stands in a file of its own name, and the operator's own in the variable of that name.
    names = {name: name.removeprefix("_") for name in role["generated"]}
    return [name for name, own in names.items() if variables.get(own) is None and not (kept / own).is_file()]


def describe(error: AnsibleError) -> dict[str, Any]:
    """Return an error's message in one line and, where Ansible knows it, its place."""
    origin = Origin.get_tag(error.obj) if error.obj is not None else None
    place = {"file": origin and origin.path, "line": origin and origin.line_num}
    return {"message": " ".join(str(error.message).split()), **place}


if __name__ == "__main__":
    main()
