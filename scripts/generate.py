"""Write what follows from the roles' contracts and the rule sets, so that no fact stands in two places.

For each role: defaults/main.yml, meta/argument_specs.yml and README.md. For playbooks alone: what our rule sets say of
drivers, in roles/nvidia_docker/vars/main/drivers.yml. For editors: inventory/fleet.schema.json. For programs that read
reports: docs/gpu-prove.schema.json and docs/preflight.schema.json.
``make generate`` runs it; ``python scripts/generate.py --check`` fails when a file is not what it would write.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import Contract, Variable, load_contracts
from celium_ops.fleet.resolve import PREFIXES
from celium_ops.gpu import report as gpu_report
from celium_ops.preflight import report as preflight_report
from celium_ops.verdict import ruleset

HEADER = "# Generated from meta/contract.yml by `make generate`: change it there.\n---\n"
RULES_HEADER = "# Generated from celium_ops/verdict/rulesets by `make generate`: change it there.\n---\n"
ANSIBLE_TYPES = {
    "registry": "str",
    "port": "int",
    "percent": "int",
    "count": "int",
    "amount": "float",
    "hotkeys": "list",
    "port_range": "str",
    "port_mappings": "list",
    "name": "str",
    "db_name": "str",
    "mount_name": "str",
    "mount_path": "path",
    "ss58": "str",
    "image": "str",
    "host": "str",
    "device": "str",
    "pools": "list",
    "sysctls": "dict",
}
JSON_TYPES = {
    "int": "integer",
    "port": "integer",
    "percent": "integer",
    "count": "integer",
    "amount": "number",
    "hotkeys": "array",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "pools": "array",
    "dict": "object",
    "sysctls": "object",
}

_LEAST = {"count": 1, "amount": 0}


def main() -> int:
    """Write the files, or with ``--check`` name those that are out of date and return 1."""
    stale, contracts = [], load_contracts()
    written = {role: asdict(contract) for role, contract in contracts.items()}
    if TypeAdapter(dict[str, Contract]).validate_python(written) != contracts:
        sys.exit("a contract has a value of another type than its field, which YAML only read as one of the same look")
    for path, content in generated(contracts).items():
        file = collection_dir() / path
        if file.is_file() and file.read_text() == content:
            continue
        stale.append(file)
        if "--check" not in sys.argv:
            file.write_text(content)
    if stale and "--check" in sys.argv:
        sys.stderr.write("".join(f"out of date, run make generate: {file}\n" for file in stale))
        return 1
    return 0


def generated(contracts: dict[str, Contract]) -> dict[Path, str]:
    """Return every file that follows from the contracts, by path in the collection."""
    files = {
        Path("inventory/fleet.schema.json"): json.dumps(schema(contracts), indent=2) + "\n",
        Path("docs/gpu-prove.schema.json"): document(gpu_report.Document),
        Path("docs/preflight.schema.json"): document(preflight_report.Document),
        Path("roles/nvidia_docker/vars/main/drivers.yml"): to_yaml({"_nvidia_docker_rules": drivers()}, RULES_HEADER),
    }
    for role, contract in contracts.items():
        options = {name: argument_spec(variable) for name, variable in contract.variables.items()}
        specs = {"argument_specs": {"main": {"short_description": contract.summary, "options": options}}}
        # Defaults reach no further than their role, so every role carries those of the shared variables too.
        defaults = contract.defaults() | contracts["common"].defaults()
        folder = Path("roles") / role
        files[folder / "defaults/main.yml"] = to_yaml(defaults)
        files[folder / "meta/argument_specs.yml"] = to_yaml(specs)
        files[folder / "README.md"] = readme(contract)
    return files


def drivers() -> dict[str, Any]:
    """Return what each rule set that comes with us says of drivers."""
    found = {}
    for name in ruleset.NAMES:
        rules = ruleset.supplied(name)
        limits = [gate.rule.limit for gate in rules.of_fact("driver").gates if gate.rule.kind == "version_at_least"]
        table = rules.tables["drivers"]
        found[name] = {
            "minimum": limits[0] if limits else None,
            "complete": table.complete,
            "versions": list(table.entries),
        }
    return found


def document(kind: type) -> str:
    """Return the JSON schema of a document that a command prints."""
    return json.dumps(TypeAdapter(kind).json_schema(), indent=2) + "\n"


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


def readme(contract: Contract) -> str:
    """Return a role's README: what it is, how to use it, every variable."""
    rows = [row(name, variable) for name, variable in contract.variables.items()]
    lines = [
        f"# Role celium.ops.{contract.role}",
        "",
        f"{contract.summary}.",
        "",
        "<!-- Generated from meta/contract.yml by `make generate`: change it there. -->",
        "",
        "```yaml",
        f"- hosts: {contract.group}",
        "  become: true",
        "  roles:",
        f"    - celium.ops.{contract.role}",
        "```",
        "",
        "| variable | type | default | becomes | meaning |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)


def row(name: str, variable: Variable) -> str:
    """Return a variable's line in the table of a README."""
    default = "**required**" if variable.required else "" if variable.default is None else code(variable.default)
    names = variable.env.values() if isinstance(variable.env, dict) else [variable.env, variable.db_env]
    kind = " or ".join(variable.choices) or variable.type
    only = f" (dialect {variable.dialects[0]} only)" if len(variable.dialects) == 1 else ""
    return (
        f"| `{name}` | {kind} | {default} | {' '.join(f'`{env}`' for env in names if env)} | {variable.meaning}{only} |"
    )


def code(value: object) -> str:
    """Return a default for a table: JSON, where a bar would end the cell."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "`" + text.replace("|", "\\|") + "`"


def schema(contracts: dict[str, Contract]) -> dict[str, Any]:
    """Return the JSON schema of an inventory file: a misspelt key or a wrong type shows while it is typed."""
    variables = {name: item for contract in contracts.values() for name, item in contract.variables.items()}
    names, ours = "|".join(map(re.escape, variables)), "|".join(PREFIXES)
    host = {
        "type": ["object", "null"],
        "properties": {name: property_of(variable) for name, variable in variables.items()},
        "patternProperties": {f"^(?!({names})$)({ours})": False},
    }
    group = {
        "type": ["object", "null"],
        "properties": {
            "vars": {"$ref": "#/definitions/host"},
            "hosts": {"type": ["object", "null"], "additionalProperties": {"$ref": "#/definitions/host"}},
            "children": {"type": ["object", "null"], "additionalProperties": {"$ref": "#/definitions/group"}},
        },
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "An inventory of celium-ops",
        "definitions": {"host": host, "group": group},
        "type": "object",
        "additionalProperties": {"$ref": "#/definitions/group"},
    }


def property_of(variable: Variable) -> dict[str, Any]:
    """Return the schema of one variable; a Jinja expression may stand for any value."""
    kind = JSON_TYPES.get(variable.type)
    found: dict[str, Any] = {"type": kind} if kind else {"type": ["string", "integer", "number", "array"]}
    if variable.type == "percent":
        found |= {"minimum": 0, "maximum": 100}
    if variable.type in _LEAST:
        found |= {"minimum": _LEAST[variable.type]}
    if variable.type == "port":
        found |= {"minimum": 1, "maximum": 65535}
    if variable.choices:
        found = {"enum": list(variable.choices)}
    jinja = {"type": "string", "pattern": "\\{\\{"}
    return {"description": variable.meaning, "anyOf": [found, jinja, {"type": "null"}]}


class _Indented(yaml.SafeDumper):
    """Indents list items, as yamllint wants it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's signature
        super().increase_indent(flow, indentless=False)


def to_yaml(content: object, header: str = HEADER) -> str:
    """Return YAML with the keys in the contract's order."""
    return header + yaml.dump(content, Dumper=_Indented, sort_keys=False, width=150, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main())
