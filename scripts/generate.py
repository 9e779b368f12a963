"""Write what follows from the roles' contracts: defaults/main.yml and meta/argument_specs.yml of each role.

``make generate`` runs it; ``python scripts/generate.py --check`` fails when a file is not what it would write.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import Contract, Variable, load_contracts

HEADER = "# Generated from meta/contract.yml by `make generate`: change it there.\n---\n"
ANSIBLE_TYPES = {
    "port": "int",
    "port_range": "str",
    "port_mappings": "list",
    "ss58": "str",
    "image": "str",
    "host": "str",
}


def argument_spec(variable: Variable) -> dict[str, Any]:
    """Return a variable the way Ansible's argument specification wants it."""
    spec: dict[str, Any] = {"type": ANSIBLE_TYPES.get(variable.type, variable.type), "description": variable.meaning}
    if variable.required and variable.default is None:
        spec["required"] = True
    if variable.default is not None:
        spec["default"] = variable.default
    if variable.choices:
        spec["choices"] = list(variable.choices)
    if variable.secret:
        spec["no_log"] = True
    return spec


def generated(contract: Contract) -> dict[str, str]:
    """Return the files of a role that follow from its contract, by path inside the role."""
    options = {name: argument_spec(variable) for name, variable in contract.variables.items()}
    specs = {"argument_specs": {"main": {"short_description": contract.summary, "options": options}}}
    # Defaults reach no further than their role, so every role carries those of the shared variables too.
    defaults = contract.defaults() | load_contracts()["common"].defaults()
    return {"defaults/main.yml": to_yaml(defaults), "meta/argument_specs.yml": to_yaml(specs)}


class _Indented(yaml.SafeDumper):
    """Indents list items, as yamllint wants it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's signature
        super().increase_indent(flow, indentless=False)


def to_yaml(content: object) -> str:
    """Return YAML with the keys in the contract's order."""
    return HEADER + yaml.dump(content, Dumper=_Indented, sort_keys=False, width=150, allow_unicode=True)


def main() -> int:
    """Write the files, or with ``--check`` name those that are out of date and return 1."""
    stale = []
    for contract in load_contracts().values():
        for path, content in generated(contract).items():
            file = Path(collection_dir()) / "roles" / contract.role / path
            if file.is_file() and file.read_text() == content:
                continue
            stale.append(file)
            if "--check" not in sys.argv:
                file.write_text(content)
    if stale and "--check" in sys.argv:
        sys.stderr.write("".join(f"out of date, run make generate: {file}\n" for file in stale))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
