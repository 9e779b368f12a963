"""Look into the journal."""

from __future__ import annotations

from pathlib import Path

from celium_ops.base.errors import UsageError
from celium_ops.fleet.resolve import must_exist
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import Journal, Run


def list_runs(inventory: Path, limit: int) -> list[Run]:
    """Return the newest runs of the fleet, newest first."""
    return _journal(inventory).list(limit)


def show_run(inventory: Path, run: str) -> Run:
    """Return one run with its hosts.

    Raises:
        UsageError: there is no such run.
    """
    found = _journal(inventory).show(run)
    if found is None:
        raise UsageError(f"there is no run {run}", remedy="celium-ops runs list", code="no-such-run")
    return found


def _journal(inventory: Path) -> Journal:
    must_exist(inventory)
    return Journal(fleet_dir(inventory))
