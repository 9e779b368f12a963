"""Drivers that an inventory wants, held against what validators accept: before any host is touched."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from celium_ops.fleet.inventory import Finding, Severity
from celium_ops.fleet.model import Fleet, Host

if TYPE_CHECKING:
    from celium_ops.verdict.judge import Check
    from celium_ops.verdict.ruleset import RuleSet

KEY = "nvidia_docker_driver_version"


def driver_findings(fleet: Fleet) -> list[Finding]:
    """Return an error for each host whose driver validators would refuse, a warning where that is not known.

    Raises:
        UsageError: the operator's rules cannot be read.
    """
    wanting = [host for host in fleet.hosts.values() if _wants_one(host)]
    if not wanting:
        return []
    from celium_ops.verdict.ruleset import load  # takes a while, and few inventories name a driver

    remembered = functools.cache(load)  # the rules of a thousand hosts are mostly one file
    return [finding for host in wanting for finding in _of(host, remembered)]


def _wants_one(host: Host) -> bool:
    values = host.values
    return bool(
        values.get(KEY) and values.get("nvidia_docker_toolkit") and not values.get("nvidia_docker_driver_unlisted")
    )


def _of(host: Host, load: Callable[[str], RuleSet]) -> Iterator[Finding]:
    from celium_ops.verdict import judge
    from celium_ops.workflows.predictions import rules_of

    version = host.values[KEY]
    if isinstance(host.given.get(KEY), float):
        yield _at(host, "error", f"{KEY}: {version} is a number to YAML, which drops zeros at its end", '"550.120"')
        return
    rules = rules_of(host, load)
    # Somebody who rents the host now is gone at some time.
    verdict = judge.judge(judge.Host({"driver": version, "rented": False}), rules.of_fact("driver"))
    for check in verdict.checks:
        if check.status != "pass":
            yield _finding(host, str(version), check, rules)


def _finding(host: Host, version: str, check: Check, rules: RuleSet) -> Finding:
    refused = check.status == "fail"
    does = "refuse it" if refused else "may not know it"
    message = f"{KEY}: {version}: by the rules of {rules.name} validators {does} ({check.code or check.id}: "
    message += f"{check.message}); nvidia_docker_driver_unlisted: true lets it in"
    return _at(host, "error" if refused else "warning", message, _expected(version, check, rules))


def _at(host: Host, severity: Severity, message: str, expected: str) -> Finding:
    file, line = host.origins.get(KEY, (None, None))
    return Finding(severity, message, host.name, file, line, KEY, host.values[KEY], expected)


def _expected(version: str, check: Check, rules: RuleSet) -> str:
    """Return what would do: of a list those of the same branch, or where there is none what the rule says."""
    branch = version.partition(".")[0] + "."
    listed = [one for one in rules.tables["drivers"].entries if one.startswith(branch)]
    return f"one of {', '.join(listed)}" if check.code and listed else check.required
