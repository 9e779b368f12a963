"""How proofs look: the phases while they run, each card beside its reference, and one host explained."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celium_ops.cli.progress import Screen
from celium_ops.cli.views import out

if TYPE_CHECKING:
    from rich.table import Table

    from celium_ops.fleet.model import Host
    from celium_ops.gpu.report import CardReport, HostReport
    from celium_ops.workflows.gpu import Proving

VERDICTS = {
    "accept": "[green]accept[/]",
    "reject": "[red]reject[/]",
    "unknown": "[yellow]unknown[/]",
    "skipped": "[dim]skipped[/]",
}
STATUSES = {"pass": "[green]✓[/]", "fail": "[red]✗[/]", "error": "[red]![/]", "warn": "[yellow]![/]"}
BAR = 24


class Phases(Screen):
    """Shows what each host is doing."""

    def start(self, hosts: list[Host]) -> None:
        """Begin with the chosen hosts."""
        self.phases = {host.name: "waiting" for host in hosts}
        self.go_live(transient=True)

    def update(self, host: str, phase: str) -> None:
        """Take one step of one host."""
        if self.phases.get(host) == phase:
            return
        self.phases[host] = phase
        if not self.live and "/" not in phase:  # how far a chain is would fill a log
            self.say(host, phase)

    def table(self) -> Table:
        """Return each host with its phase."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        for name, phase in self.phases.items():
            table.add_row(name, f"[cyan]{escape(phase)}[/]")
        table.caption = f"{time.monotonic() - self.began:.0f} s"
        return table


def show_proving(done: Proving) -> None:
    """Show every card, what speaks against it, and the fleet as a picture."""
    from rich.markup import escape

    console = out()
    console.print(_table(done.hosts))
    for host in done.hosts:
        for reason in host.reasons:
            mark = STATUSES["fail"] if host.verdict == "reject" else "-"
            console.print(f"{mark} {escape(host.name)}: {escape(reason.message)}")
    modes = sorted({host.mode for host in done.hosts if host.mode and host.mode != "cuda"})
    if modes:
        said = "a processor computed in place of GPUs; nothing of a GPU is proven"
        console.print(f"[yellow]{' and '.join(modes)}: {said}[/]")
    console.print("[dim]celium-ops gpu show HOST explains one[/]")


def _table(hosts: list[HostReport]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    numbers = ("proven", "reported", "of its clock", "memory", "copies")
    for column in ("host", "card", *numbers[:3], "", *numbers[3:], "assurance", "verdict"):
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    for host in hosts:
        if not host.gpus:
            table.add_row(escape(host.name), *[""] * 7, host.assurance, VERDICTS[host.verdict])
        for number, card in enumerate(host.gpus):
            name = escape(host.name) if number == 0 else ""
            verdict = VERDICTS[host.verdict] if number == 0 else ""
            table.add_row(name, *_card(card), host.assurance if number == 0 else "", verdict)
    return table


def _card(card: CardReport) -> tuple[str, ...]:
    from rich.markup import escape

    mark = STATUSES["fail"] if card.verdict == "reject" else STATUSES["pass"] if card.verdict == "accept" else "·"
    bar = f"[cyan]{'█' * round(min(1.0, card.of_clock) * BAR):<{BAR}}[/]" if card.of_clock else ""
    return (
        f"{mark} {escape(card.name)}",
        _speed(card.proven_tflops),
        _speed(card.tflops),
        f"{card.of_clock:.0%}" if card.of_clock else "",
        bar,
        f"{card.memory_gib:.3g} GiB" if card.memory_gib else "",
        f"{card.bandwidth_gb_s:.0f} GB/s" if card.bandwidth_gb_s else "",
    )


def _speed(tflops: float | None) -> str:
    return "" if tflops is None else f"{tflops:.3g} TFLOPS"


def show_report(when: str, report: dict[str, Any]) -> None:
    """Explain one host."""
    from rich.markup import escape

    console = out()
    console.print(
        f"[bold]{escape(report['name'])}[/]  {VERDICTS[report['verdict']]}  {when[:19].replace('T', ' ')} UTC, "
        f"{report['seconds']:.1f} s, mode {report['mode']}, assurance {report['assurance']}"
    )
    _show_checks(report["checks"])
    for card in report["gpus"]:
        console.print(f"\n[bold]{escape(card['name'])}[/]  {escape(card['uuid'])}")
        _show_checks(card["checks"])
    prediction = report["prediction"]
    if prediction:
        console.print(f"\nThe validator, by the rules of {prediction['ruleset']}: {VERDICTS[prediction['verdict']]}")
        for reason in prediction["reasons"]:
            console.print(f"  {escape(reason['code'])}: {escape(reason['message'])}; {escape(reason['remedy'])}")
    console.print("\nNo proof can show:")
    for line in report["not_proven"]:
        console.print(f"  {escape(line)}")


def _show_checks(checks: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        remedy = f"[dim]{escape(check['remedy'])}[/]" if check["remedy"] and check["status"] != "pass" else ""
        table.add_row(STATUSES.get(check["status"], "·"), check["id"], escape(check["message"]), remedy)
    out().print(table)
