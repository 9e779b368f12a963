"""Live progress of a run on stderr: a table that moves on a terminal, a line for each turn of events elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

from celium_ops.cli.views import STYLES, err

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from celium_ops.fleet.model import Host
    from celium_ops.runner.recap import HostRecap

REFRESH = 4.0
"""Redraws a second; each costs a few milliseconds of the controller's CPU."""


class Screen(ABC):
    """What each host is doing: ``table`` moves on a terminal, elsewhere each phase is a line."""

    def __init__(self) -> None:
        self.console = err()
        self.phases: dict[str, str] = {}
        self.live: Live | None = None
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.update(self.table(), refresh=True)
            self.live.stop()

    @abstractmethod
    def table(self) -> Table:
        """Return what is shown on a terminal."""

    def warn(self, line: str) -> None:
        """Say what the operator must know although the run goes on."""
        self.console.print(f"Warning: {line}", style="yellow", markup=False)

    def go_live(self, transient: bool = False) -> bool:
        """Begin to show the table where there is a terminal; return whether there is. A ``transient`` one goes away."""
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(
                get_renderable=self.table, console=self.console, refresh_per_second=REFRESH, transient=transient
            )
            self.live.start()
        return self.live is not None

    def say(self, host: str, phase: str) -> None:
        """Print a phase as a line."""
        self.console.print(f"{time.monotonic() - self.began:6.1f} s  {host}: {phase}", markup=False)


class Progress(Screen):
    """Shows what each host is doing while a playbook runs."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: dict[str, HostRecap | None] = {}

    def start(self, hosts: list[Host]) -> None:
        """Begin with the selected hosts."""
        self.hosts = dict.fromkeys((host.name for host in hosts), None)
        if not self.go_live():
            self.console.print(f"{len(hosts)} hosts: {', '.join(self.hosts)}")

    def update(self, host: HostRecap) -> None:
        """Take one step of one host."""
        self.hosts[host.name] = host
        if self.live:
            return
        # A line for each role is enough for a log; the tasks are seen on a terminal.
        phase = host.error.splitlines()[0] if host.error else host.role
        if phase and self.phases.get(host.name) != phase:
            self.phases[host.name] = phase
            self.say(host.name, phase)

    def table(self) -> Table:
        """Return each host with how far it is and its task."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        for name, host in self.hosts.items():
            if host is None:
                table.add_row("[dim]·[/]", name, "", "", "[dim]waiting[/]")
                continue
            mark = STYLES.get(host.result or "", "[cyan]▸[/]")
            counts = f"{host.done} done", f"[yellow]{host.changed} changed[/]" if host.changed else ""
            table.add_row(mark, name, *counts, escape(host.error or host.task).splitlines()[0])
        table.caption = f"{time.monotonic() - self.began:.0f} s"
        return table
