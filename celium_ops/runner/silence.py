"""Which hosts of a playbook run are silent for longer than their task may take; Ansible itself ends most tasks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from celium_ops.runner.recap import Event

MARGIN = 60.0
"""Seconds after its limit in which Ansible should have ended a task: it cleans up, and has other hosts."""
LONGEST = 3 * 3600.0
"""Seconds for a task whose limit follows from the inventory, like that of a reboot."""


@dataclass(frozen=True)
class Overdue:
    """A task that did not end, and the seconds it has had."""

    task: str
    seconds: float


@dataclass
class _Open:
    task: str
    limit: float
    began: float
    heard: float


class Silence:
    """The tasks that hosts have begun and not ended; fed with the events of a run.

    Ansible's own limit (``ordinary``, or the task's ``timeout``) holds while a task's action runs. It does not hold
    while Ansible works out the task's values or reads its result.
    """

    def __init__(self, ordinary: float, now: Callable[[], float] = time.monotonic) -> None:
        self.ordinary = ordinary
        self.now = now
        self.open: dict[str, _Open] = {}
        self.heard: float | None = None

    def feed(self, event: Event) -> None:
        """Take one event of ansible-runner."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        self.heard = now = self.now()
        host = data.get("host")
        if not kind.startswith("runner_") or host is None:
            return
        if kind == "runner_on_start":
            # What gathers facts stands in no file: the place that Ansible gives is its play's.
            own = None if data.get("task_action") == "gather_facts" else _own_limit(data.get("task_path") or "")
            self.open[host] = _Open(data.get("task", ""), own or self.ordinary, now, now)
        elif kind in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped"):
            self.open.pop(host, None)
        elif host in self.open:  # an item of a loop, or one more try
            self.open[host].heard = now

    def overdue(self) -> dict[str, Overdue] | None:
        """Return the hosts that keep Ansible from its end; null while others work, or a task still has time.

        It is empty where no task is under way and Ansible itself is silent.
        """
        now = self.now()
        if self.heard is None or now - self.heard < MARGIN:
            return None
        if any(now - one.heard < one.limit + MARGIN for one in self.open.values()):
            return None
        if not self.open and now - self.heard < self.ordinary + MARGIN:
            return None
        return {host: Overdue(one.task, now - one.began) for host, one in self.open.items()}


@cache
def _own_limit(place: str) -> float | None:
    """Return the ``timeout`` of the task at ``place`` (FILE:LINE), null for none; for an expression ``LONGEST``."""
    file, _, line = place.rpartition(":")
    try:
        lines = Path(file).read_text().splitlines()[int(line) - 1 :]
    except (OSError, ValueError):
        return None
    begin = re.match(r" *- ", lines[0]) if lines else None
    if not begin:
        return None
    indent = len(begin[0])
    for text in lines[1:]:
        if text.strip() and len(text) - len(text.lstrip()) < indent and not text.lstrip().startswith("#"):
            break
        if found := re.match(rf" {{{indent}}}timeout: *([^#]+)", text):
            return float(found[1]) if found[1].strip().isdigit() else LONGEST
    return None
