"""What the validator would say of a host, from what a proof or preflight measured there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from celium_ops.fleet.model import Host
from celium_ops.gpu.messages import Card, Nvml
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import Journal
from celium_ops.verdict import judge, ruleset
from celium_ops.verdict.ruleset import RuleSet
from celium_ops.workflows.proofs import COMMAND, REMEMBERED


def rules_of(host: Host, load: Callable[[str], RuleSet] = ruleset.load) -> RuleSet:
    """Return the rules by which a host is judged; who asks for many hosts gives a ``load`` that remembers."""
    return load(str(host.values["celium_ruleset"]))


def seen_by_nvml(nvml: Nvml, more: dict[str, Any]) -> judge.Host:
    """Return what the validator would find through NVML, and ``more`` that it would find otherwise; pure."""
    facts: dict[str, Any] = {
        "driver": nvml.driver,
        "nvml_digest": nvml.library.sha256 if nvml.library else None,
        "gpu_count": nvml.count,
        "gpu_details": len(nvml.cards),
        "uuids": sorted(card.uuid for card in nvml.cards if card.uuid),
        "spec": f"{nvml.count} x {nvml.cards[0].name}" if nvml.cards else None,
        **more,
    }
    return judge.Host(facts, [_card(card) for card in nvml.cards])


def _card(card: Card) -> dict[str, Any]:
    limit, default = card.power_limit_w, card.default_power_limit_w
    return {
        "uuid": card.uuid,
        "name": card.name,
        "memory_mib": card.memory_mib,
        "held_mib": card.held_mib,
        "utilisation": card.utilisation,
        "memory_utilisation": card.memory_utilisation,
        # A container sees no processes of others: what holds memory shows in held_mib.
        "processes": len(card.processes or []),
        "power_limit_ratio": limit / default if limit and default else None,
    }


def prediction(facts: judge.Host, rules: RuleSet, before: judge.Host | None) -> dict[str, Any]:
    """Return the verdict as reports have it, with the facts that it rests on; pure."""
    verdict = judge.judge(facts, rules, before)
    return {
        "verdict": verdict.prediction,
        "ruleset": rules.name,
        "reasons": [
            {"code": check.code or check.id, "message": check.message, "remedy": check.remedy}
            for check in verdict.reasons
        ],
        "facts": {"host": dict(facts.facts), "cards": [dict(card) for card in facts.cards]},
    }


def last_accepted(inventory: Path) -> dict[str, judge.Host]:
    """Return what each host showed when a proof of its GPUs was last accepted."""
    known: dict[str, judge.Host] = {}
    for _, content in Journal(fleet_dir(inventory)).details(COMMAND, REMEMBERED):
        for host in content["hosts"]:
            if host["verdict"] == "accept" and host["prediction"] and host["name"] not in known:
                facts = host["prediction"]["facts"]
                known[host["name"]] = judge.Host(facts["host"], facts["cards"])
    return known
