"""How a plan looks to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from celium_ops.workflows.plan import HostPlan, Plan

_STYLES = {"converged": "green", "differs": "yellow", "new": "cyan", "unreachable": "red"}


def show(plan: Plan, diff: bool, console: Console, only_pending: bool = False) -> None:
    """Show each host with what differs there, and what a deploy would do."""
    for host in plan.hosts:
        if host.state != "converged" or not only_pending:
            show_host(host, diff, console)
    show_counts(plan, console)


def show_host(host: HostPlan, diff: bool, console: Console) -> None:
    """Show one host."""
    from rich.markup import escape

    colour = _STYLES[host.state]
    console.print(f"[{colour}]{host.state:<11}[/] [bold]{host.name}[/] ({host.role})")
    for one in host.drift:
        console.print(f"  {one.kind} {escape(one.name)}: {escape(one.why)}")
        if diff and one.diff:
            console.print("".join(f"    {escape(line)}\n" for line in one.diff.splitlines()), end="")
    if host.error:
        console.print(f"  [red]{escape(host.error)}[/]")
    for effect in host.effects:
        console.print(f"  [dim]deploy:[/] {escape(effect)}")


def show_counts(plan: Plan, console: Console) -> None:
    """Show how many hosts are in which state."""
    states = [host.state for host in plan.hosts]
    counts = ", ".join(f"{states.count(state)} {state}" for state in _STYLES if state in states)
    console.print(f"{len(states)} hosts: {counts}; {plan.changes} changes pending")
