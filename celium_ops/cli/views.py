"""How answers look: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from celium_ops.base.errors import CeliumError
    from celium_ops.cli.options import Settings
    from celium_ops.fleet.inventory import Finding
    from celium_ops.fleet.model import Fleet
    from celium_ops.journal.runs import Run
    from celium_ops.workflows.deploy import Deployment
    from celium_ops.workflows.inventory import ShownHost
    from celium_ops.workflows.retire import Retirement
    from celium_ops.workflows.status import HostStatus
    from celium_ops.workflows.trust import HostTrust

WIDE = 240
"""Columns of an answer that no terminal limits."""

STYLES = {
    "ok": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "unreachable": "[red]?[/]",
    "skipped": "[yellow]-[/]",
    "interrupted": "[yellow]-[/]",
}


def out() -> Console:
    """Return the console for answers (stdout); in a pipe or a file nothing is cut off, whatever its width."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def err() -> Console:
    """Return the console for progress and errors (stderr); NO_COLOR and pipes are honoured by rich."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(settings: Settings, document: dict[str, Any]) -> None:
    """Print the one JSON document of a command on stdout, its ``schema`` first."""
    sys.stdout.write(json.dumps({"schema": settings.schema, **document}, indent=2, default=str) + "\n")


def show_error(error: CeliumError, settings: Settings) -> None:
    """Show an error: as the contract's JSON object, or for people on stderr."""
    from rich.markup import escape

    if settings.json:
        print_json(settings, {"ok": False, "error": error.to_json()})
    place = ":".join(str(part) for part in (error.file, error.line) if part is not None)
    named = [error.host and f"host {error.host}", error.key]
    where = " ".join([place, *(part for part in named if part and part.split()[-1] not in error.message)]).strip()
    console = err()
    console.print(f"[bold red]Error[/] {f'{escape(where)}: ' if where else ''}{escape(error.message)}")
    if error.remedy:
        console.print(f"[bold]Remedy[/] {escape(error.remedy)}")


def show_findings(fleet: Fleet, findings: list[Finding]) -> None:
    """Show what an inventory's check found, one line each."""
    from rich.markup import escape

    from celium_ops.fleet.inventory import ROLES

    console = out()
    for finding in findings:
        colour = "red" if finding.severity == "error" else "yellow"
        place = ":".join(str(part) for part in (finding.file, finding.line) if part is not None)
        host = f"{finding.host}: " if finding.host and finding.host not in finding.message else ""
        console.print(f"{escape(place)}: [{colour}]{finding.severity}[/] {escape(host + finding.message)}")
    errors = sum(finding.severity == "error" for finding in findings)
    counts = ", ".join(f"{len(fleet.of_role(role))} {group}" for group, role in ROLES.items())
    verdict = f"[red]{errors} errors[/]" if errors else "[green]correct[/]"
    console.print(f"{escape(str(fleet.inventory))}: {counts}: {verdict}, {len(findings) - errors} warnings")


def show_hosts(hosts: list[ShownHost]) -> None:
    """Show the values of hosts, each with the line it comes from."""
    from rich.markup import escape
    from rich.table import Table

    console = out()
    for host in hosts:
        console.print(f"[bold]{host.name}[/] ({host.role} at {host.address})")
        table = Table(box=None, pad_edge=True, show_header=False)
        for value in host.values:
            origin = f"{Path(value.file).name}:{value.line}" if value.file else "default"
            table.add_row(value.key, escape(str(value.value)), f"[dim]{escape(origin)}[/]")
        console.print(table)


def show_deployment(deployment: Deployment, check: bool) -> None:
    """Show what became of each host, then the reasons of those that failed."""
    from rich.markup import escape
    from rich.table import Table

    console = out()
    table = Table(box=None, pad_edge=False)
    for column in ("", "host", "result", "would change" if check else "changed", "seconds", "registered", "GPUs"):
        table.add_column(column, justify="right" if column in ("changed", "would change", "seconds") else "left")
    for host in deployment.hosts:
        registered = {True: "yes", False: "[red]no[/]", None: ""}[host.registered]
        row = (STYLES[host.result], host.name, host.result, str(host.changed), f"{host.seconds:.0f}", registered)
        table.add_row(*row, host.proof or "")
    console.print(table)
    for host in deployment.hosts:
        for difference in host.differences:
            console.print(f"\n[bold]{host.name}[/]\n{escape(difference)}")
        _show_trouble(console, host.name, [host.error] if host.error else [], host.remedy)
        if host.proof == "reject" and not host.error:
            console.print(f"[yellow]{host.name}[/]: its GPUs did not prove themselves; registered all the same")
            console.print(f"  [bold]Remedy[/] celium-ops gpu show {host.name}")
        for until in dict.fromkeys(one["until"] for one in host.waits):
            waits = ", ".join(f"{one['name']} {one['why']}" for one in host.waits if one["until"] == until)
            console.print(
                f"[yellow]{host.name}[/]: waits for the tenant of {host.name}: {escape(until)}: {escape(waits)}"
            )
    for host in deployment.hosts:
        if host.leftovers:
            console.print(
                f"[yellow]{host.name}[/] has rows that no host of the inventory has: {', '.join(host.leftovers)}"
            )
            console.print("  [bold]Remedy[/] celium-ops deploy --prune removes them")
    well = sum(host.result == "ok" for host in deployment.hosts)
    verb = "would change" if check else "changed"
    console.print(f"{well} of {len(deployment.hosts)} hosts ok, {deployment.changed} {verb} (run {deployment.run})")


def _show_trouble(console: Console, host: str, problems: Iterable[str], remedy: str | None) -> None:
    from rich.markup import escape

    for problem in problems:
        console.print(f"[red]{host}[/]: {escape(problem)}")
    if remedy:
        console.print(f"  [bold]Remedy[/] {escape(remedy)}")


def show_retirement(done: Retirement) -> None:
    """Show whether an executor is gone, and what is left to do."""
    console = out()
    for host, error in done.errors.items():
        _show_trouble(console, host, [error], None)
    if not done.errors:
        console.print(f"{done.host} is retired; take it out of the inventory (run {done.run})")


def show_status(hosts: list[HostStatus]) -> None:
    """Show the fleet's status table, then what is wrong."""
    from rich.markup import escape
    from rich.table import Table

    console = out()
    table = Table(box=None, pad_edge=False)
    for column in ("", "host", "role", "containers", "env", "registered for"):
        table.add_column(column, no_wrap=column == "containers")
    for host in hosts:
        mark = STYLES["ok" if host.healthy else "failed" if host.reachable else "unreachable"]
        containers = " ".join(_container(item.service, item.well) for item in host.containers)
        registered = {True: host.validator or "yes", False: "[red]nobody[/]", None: ""}[host.registered]
        env = {True: "current", False: "[yellow]differs[/]", None: ""}[host.env_up_to_date]
        shown = containers if host.reachable else "[red]unreachable[/]"
        table.add_row(mark, host.name, host.role, shown, env, registered)
    console.print(table)
    for host in hosts:
        for warning in host.warnings:
            console.print(f"[yellow]{host.name}[/]: {escape(warning)}")
        _show_trouble(console, host.name, host.problems, host.remedy)
    healthy = sum(host.healthy for host in hosts)
    console.print(f"{healthy} of {len(hosts)} hosts healthy")


def _container(service: str, well: bool) -> str:
    return f"[green]{service}[/]" if well else f"[red]{service}![/]"


RUN_STATES = {"ok": "green", "failed": "red", "died": "red", "interrupted": "yellow", "running": "cyan"}


def show_runs(runs: list[Run]) -> None:
    """Show runs, one line each."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("run", "state", "what", "who", "began"):
        table.add_column(column, no_wrap=column == "run")
    for run in runs:
        what = " ".join([run.command, *(f"{key}={value}" for key, value in run.inputs.items() if value)])
        table.add_row(run.id, f"[{RUN_STATES[run.state]}]{run.state}[/]", what, run.user, run.began[:19])
    out().print(table if runs else "no runs yet")


def show_run(run: Run) -> None:
    """Show one run with its hosts."""
    from rich.markup import escape

    show_runs([run])
    console = out()
    for host in run.hosts:
        error = f": {escape(host.error)}" if host.error else ""
        console.print(f"{STYLES[host.result]} {host.name}: {host.changed} changed in {host.seconds:.0f} s{error}")


def show_keys(console: Console, hosts: list[HostTrust]) -> None:
    """Show the keys that hosts show, and below each that has changed the old ones."""
    for host in hosts:
        rows = [(host.name, key) for key in ([host.shown.key] if host.shown else [])]
        rows += [("  before", key) for key in (host.known if host.state == "changed" else ())]
        for name, key in rows:
            console.print(f"{name:16} {key.type:19} {key.fingerprint}", markup=False)


def show_trust(hosts: list[HostTrust]) -> None:
    """Show whose keys are trusted, whose have changed, and who could not be asked."""
    from rich.markup import escape

    console = out()
    for host in hosts:
        if host.state == "changed":
            console.print(f"[red]{host.name}[/]: its host key has changed; find out why before --replace records it")
            show_keys(console, [host])
        elif host.error:
            console.print(f"[red]{host.name}[/]: {escape(host.error)}")
    for state in ("trusted", "replaced"):
        now = [host for host in hosts if host.state == state]
        for file in dict.fromkeys(str(host.file) for host in now):
            names = ", ".join(host.name for host in now if str(host.file) == file)
            console.print(f"[green]{state}[/] {names} in {escape(file)}")
    console.print(f"{sum(host.well for host in hosts)} of {len(hosts)} hosts trusted")
