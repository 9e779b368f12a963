"""How preflight looks: of each host what is not well, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celium_ops.cli.gpu_views import STATUSES, VERDICTS
from celium_ops.cli.views import err, out

if TYPE_CHECKING:
    from celium_ops.workflows.preflight import HostPreflight

_WORST = {"fail": 0, "error": 0, "warn": 1, "unknown": 2}


def say(phase: str) -> None:
    """Say what is done now."""
    err().print(phase, style="dim", markup=False)


def show(hosts: list[HostPreflight], every: bool) -> None:
    """Show each host, the worst first of what is not well; ``every`` shows the rest too."""
    for host in hosts:
        _host(host, every)
    well = sum(host.ok for host in hosts)
    out().print(f"{well} of {len(hosts)} hosts are fit")


def _host(host: HostPreflight, every: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = out()
    passed = sum(check.status == "pass" for check in host.checks)
    rented = ", rented out" if host.rented else ""
    console.print(f"[bold]{escape(host.name)}[/] {host.role}{rented}: {passed} of {len(host.checks)} checks pass")
    table = Table(box=None, pad_edge=True, show_header=False)
    shown = [check for check in host.checks if every or check.status in _WORST]
    for check in sorted(shown, key=lambda check: _WORST.get(check.status, 3)):
        code = f"[dim]{escape(check.code)}[/] " if check.code and check.status != "pass" else ""
        remedy = f"[dim]{escape(check.remedy)}[/]" if check.remedy and check.status != "pass" else ""
        table.add_row(STATUSES.get(check.status, "·"), check.id, f"{code}{escape(check.message)}", remedy)
    if shown:
        console.print(table)
    if host.prediction:
        console.print(
            f"  the validator, by the rules of {host.prediction['ruleset']}: {VERDICTS[host.prediction['verdict']]}"
        )
        for reason in host.prediction["reasons"]:
            console.print(
                f"    {escape(reason['code'])}: {escape(reason['message'])}  [dim]{escape(reason['remedy'])}[/]"
            )
