"""Begin an inventory, and look into one."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from celium_ops.base.errors import UsageError
from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import all_variables
from celium_ops.fleet.inventory import Finding, check_inventory, load_fleet
from celium_ops.fleet.model import Fleet, Host
from celium_ops.workflows.drivers import driver_findings

SAMPLE = "fleet.example.yml"
SCHEMA = "fleet.schema.json"


@dataclass(frozen=True)
class ShownValue:
    """A variable as the roles see it; ``file`` is null for a role's default, a secret's value is hidden."""

    key: str
    value: Any
    file: str | None
    line: int | None


@dataclass(frozen=True)
class ShownHost:
    """A host and its values."""

    name: str
    role: str
    address: str
    values: list[ShownValue]

    def to_json(self) -> dict[str, Any]:
        """Return the host as ``inventory show --json`` promises it."""
        return asdict(self)


def linted(inventory: Path) -> tuple[Fleet, list[Finding]]:
    """Return the fleet and everything found in its inventory, also of what validators would refuse.

    Raises:
        UsageError: Ansible cannot read the inventory at all, or there are rules that cannot be read.
    """
    fleet, findings = check_inventory(inventory)
    both = [*findings, *driver_findings(fleet)]
    return fleet, sorted(both, key=lambda finding: (finding.file or "", finding.line or 0))


def shown_hosts(inventory: Path, only: str | None) -> list[ShownHost]:
    """Return the hosts of a correct inventory, or the one that is asked for, with the origin of every value.

    Raises:
        UsageError: the inventory is wrong, or there is no such host.
    """
    fleet = load_fleet(inventory)
    return [_shown(host) for host in ([fleet.host(only)] if only else fleet.hosts.values())]


def _shown(host: Host) -> ShownHost:
    variables = all_variables()
    values = [
        ShownValue(key, "(secret)" if variables[key].secret else value, *host.origins[key])
        for key, value in host.values.items()
    ]
    return ShownHost(host.name, host.role, host.connection.address, values)


def write_sample(path: Path) -> None:
    """Write the sample inventory to ``path``, and beside it the schema that editors check it with.

    Raises:
        UsageError: the file exists, or its folder cannot be written.
    """
    source = collection_dir() / "inventory"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as stream:
            stream.write((source / SAMPLE).read_text())
        schema = path.with_name(SCHEMA)
        if not schema.exists():
            shutil.copyfile(source / SCHEMA, schema)
    except FileExistsError:
        raise UsageError(f"{path} exists and is left as it is", remedy="name another file", file=str(path)) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", file=str(path)) from error
