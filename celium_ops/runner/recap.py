"""From the events of a playbook run to what each host did: pure, one event at a time."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Result = Literal["ok", "failed", "unreachable", "skipped"]
Event = dict[str, Any]
RECORD = "celium.ops.record"
"""The module that is the last to be played on a host."""


@dataclass
class HostRecap:
    """One host in one run.

    ``seconds`` is the time from its first task to its last; ``code`` what a module of ours calls its error.
    """

    name: str
    role: str = ""
    task: str = ""
    changed: int = 0
    done: int = 0
    result: Result | None = None
    error: str | None = None
    code: str | None = None
    began: datetime | None = None
    ended: datetime | None = None
    changes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Return how long the host was worked on."""
        return (self.ended - self.began).total_seconds() if self.began and self.ended else 0.0


@dataclass
class Recap:
    """All hosts of one run.

    ``outputs`` keeps the results of modules that a workflow reads, by module and host. ``closed`` tells that Ansible
    came to its end and counted. Fleet failure is worked out here from the events: Ansible's own notion of it has open
    bugs with unreachable hosts.
    """

    hosts: dict[str, HostRecap] = field(default_factory=dict)
    outputs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    closed: bool = False
    wanted: frozenset[str] = frozenset({"celium.ops.miner_registry", RECORD})

    def feed(self, event: Event) -> HostRecap | None:
        """Take one event of ansible-runner; return the host it was about, if any."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        if kind in ("verbose", "error", "warning"):
            self.messages.extend(line for line in event.get("stdout", "").splitlines() if line.strip())
            return None
        if kind == "playbook_on_stats":
            self._close(data)
            self.closed = True
            return None
        if not kind.startswith("runner_on_") or "host" not in data:
            return None
        host = self.hosts.setdefault(data["host"], HostRecap(data["host"]))
        when = _when(event)
        host.began = host.began or when
        host.ended = when or host.ended
        host.role = _role(data) or host.role
        host.task = data.get("task", host.task)
        self._result(kind, data, host)
        return host

    def _result(self, kind: str, data: dict[str, Any], host: HostRecap) -> None:
        result = data.get("res", {})
        if kind in ("runner_on_ok", "runner_on_failed") and data.get("task_action") in self.wanted:
            self.outputs.setdefault(data["task_action"], {})[host.name] = result
        # A task may have changed one thing before it failed at the next.
        if kind in ("runner_on_ok", "runner_on_failed") and result.get("changed"):
            host.changed += 1
            host.changes.append(host.task)
            host.differences.extend(_differences(result))
        if kind == "runner_on_ok":
            host.done += 1
        elif kind == "runner_on_unreachable":
            host.result, host.error = "unreachable", _reason(result)
        elif kind == "runner_on_failed" and not data.get("ignore_errors"):
            # A rescue may still save the host: the statistics at the end decide, this only keeps the reason.
            host.error = f"{host.task}: {_reason(result)}"
            # A rescue says more, but only the module that failed first knows the code.
            host.code = result["code"] if isinstance(result.get("code"), str) else host.code

    def give_up(self, reason: str) -> None:
        """Note that Ansible itself died: whoever had not failed by then was not finished."""
        for host in self.hosts.values():
            if host.result is None:
                host.result, host.error = "failed", host.error or reason

    def _close(self, statistics: dict[str, dict[str, int]]) -> None:
        for name, host in self.hosts.items():
            # Results of tasks with no_log do not even say whether they changed something.
            host.changed = max(host.changed, statistics.get("changed", {}).get(name, 0))
            if statistics.get("dark", {}).get(name):
                host.result = "unreachable"
            elif statistics.get("failures", {}).get(name):
                host.result = "failed"
            else:
                host.result, host.error, host.code = "ok", None, None


def _role(data: dict[str, Any]) -> str | None:
    """Return in which role's files a task stands; for a playbook's own, Ansible names the role any host played last."""
    found = re.search(r".*/roles/([^/]+)/(?:tasks|handlers)/", data.get("task_path") or "")
    return found and found[1]


def _when(event: Event) -> datetime | None:
    created = event.get("created")
    return datetime.fromisoformat(created) if created else None


def _differences(result: dict[str, Any]) -> list[str]:
    """Return what a task changed inside files, as unified diffs; tasks with secrets report none."""
    items = [item for item in result.get("results", [result]) if isinstance(item, dict)]
    parts = [part for item in items for part in _as_list(item.get("diff"))]
    return [
        _unified(part) for part in parts if isinstance(part.get("after"), str) and part["after"] != part.get("before")
    ]


def _as_list(diff: Any) -> list[dict[str, Any]]:
    return diff if isinstance(diff, list) else [diff] if diff else []


def _unified(part: dict[str, Any]) -> str:
    before, after = (str(part.get(side) or "").splitlines() for side in ("before", "after"))
    # Ansible names the new text after a temporary file on the controller; the file on the host says more.
    name = str(part.get("before_header") or part.get("after_header") or "")
    return "\n".join(difflib.unified_diff(before, after, name, name, lineterm=""))


def _reason(result: dict[str, Any]) -> str:
    """Return why a task failed, in the words of the module, short enough for a table."""
    if "censored" in result:
        return "its output is hidden, since it may hold a secret"
    timed_out = result.get("timedout")
    if isinstance(timed_out, dict) and isinstance(timed_out.get("period"), int):
        return f"the task did not end in {timed_out['period']} s"
    if result.get("argument_errors"):
        return "; ".join(result["argument_errors"])
    failed_items = [item for item in result.get("results", []) if isinstance(item, dict) and item.get("failed")]
    if failed_items:
        return "; ".join(_reason(item) for item in failed_items)
    said = result.get("stderr") or result.get("module_stderr") or result.get("stdout") or ""
    message = str(result.get("msg") or "").strip()
    if message in ("", "non-zero return code", "MODULE FAILURE") and said:
        message = said.strip()
    return message or "no reason given"
