"""What proofs of GPUs that are over say: the last one of each host, and whether a host may be registered on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celium_ops.base.errors import UsageError
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Host
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import Journal
from celium_ops.registry.rows import row_name

COMMAND = "gpu prove"
REMEMBERED = 200
"""Runs in which the last report of a host is looked for."""
SHOWN = 3
FRESH = timedelta(days=7)
"""For so long a proof is believed by who did not see it."""

Report = Mapping[str, Any]
"""A report of a host, as JSON has it."""


def last_report(inventory: Path, name: str) -> tuple[str, dict[str, Any]]:
    """Return when a host was last proven, and its report.

    Raises:
        UsageError: it is not in the inventory, or was never proven.
    """
    load_fleet(inventory).host(name)
    for run, content in Journal(fleet_dir(inventory)).details(COMMAND, REMEMBERED):
        found = next((host for host in content["hosts"] if host["name"] == name and host["gpus"]), None)
        if found:
            return run.began, found
    raise UsageError(f"{name} has no proof yet", remedy=f"celium-ops gpu prove --limit {name}", code="no-proof")


def last_reports(inventory: Path, hosts: Iterable[Host]) -> dict[str, Report]:
    """Return the last report of each host as it stands now, by its name; none that is older than ``FRESH``.

    Whatever became of it counts, except that it was left alone; a host of another address is another host.
    """
    wanted, found = {host.name: row_name(host.endpoint) for host in hosts}, dict[str, Report]()
    oldest = datetime.now(UTC) - FRESH
    for run, content in Journal(fleet_dir(inventory)).details(COMMAND, REMEMBERED):
        if datetime.fromisoformat(run.began) < oldest:
            break
        for host in content["hosts"]:
            place = content.get("places", {}).get(host["name"])
            if host["verdict"] != "skipped" and host["name"] in wanted and place == wanted[host["name"]]:
                found.setdefault(host["name"], host)
    return found


def objection(host: Host, report: Report | None) -> str | None:
    """Return what keeps an executor out of its miner's registry by ``executor_gpu_proof``; null for nothing; pure."""
    if host.values["executor_gpu_proof"] == "advise":
        return None
    if report is None:
        return "its GPUs have not proven themselves yet"
    if _passed(host, report):
        return None
    reasons = [f"{reason['code']}: {reason['message']}" for reason in report["reasons"][:SHOWN]]
    return f"its GPUs did not prove themselves ({'; '.join(reasons) or report['verdict']})"


def _passed(host: Host, report: Report) -> bool:
    if host.values["executor_gpu_proof"] == "simulated":
        return (report["mode"], report["verdict"]) == ("simulated", "unknown")
    # What nobody can observe leaves a verdict unknown; a card that does not prove its work is no proof at all.
    return (report["assurance"], report["verdict"]) in (("work_proven", "accept"), ("work_proven", "unknown"))
