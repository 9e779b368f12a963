"""What the environment files of a host would be."""

from __future__ import annotations

from pathlib import Path

from celium_ops.base.errors import UsageError
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.resolve import environments


def rendered(inventory: Path, name: str) -> dict[str, str]:
    """Return the files a deploy would write for a host, by path on the host; secrets are masked.

    Raises:
        UsageError: the inventory is wrong, there is no such host, or a value cannot stand in such a file.
    """
    host = load_fleet(inventory).host(name)
    environment = environments(inventory, masked=True)[name]
    if environment.error:
        raise UsageError(environment.error, host=name, file=str(inventory), code="unwritable-environment")
    return {f"{host.stack}/{file}": text for file, text in environment.files.items()}
