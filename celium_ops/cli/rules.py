"""``celium-ops rules``: what the validator checks, as of when, and newer editions of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from celium_ops.cli.options import Settings, command, group

if TYPE_CHECKING:
    from celium_ops.verdict.ruleset import RuleSet

app = group("What the validator checks, as dated data.")


@command(app, "show")
def show(
    settings: Settings,
    name: Annotated[str | None, typer.Argument(help="The rule set, by its date; all of them without.")] = None,
) -> None:
    """Show the validator's checks with their limits, or the rule sets there are, and how old they are.

    Examples:
      celium-ops rules show
      celium-ops rules show 2026-09
      celium-ops rules show 2026-09 --json | jq '.rulesets[0].gates[].id'
    """
    from celium_ops.cli import views
    from celium_ops.verdict.ruleset import load, names

    found = [load(one) for one in ([name] if name else names())]
    if settings.json:
        views.print_json(settings, {"ok": True, "rulesets": [_document(one) for one in found]})
    elif name:
        _show_gates(found[0])
    else:
        for one in found:
            views.out().print(_headline(one))


@command(app, "update")
def update(
    settings: Settings, file: Annotated[Path, typer.Argument(help="A rule set, as `rules show` names its parts.")]
) -> None:
    """Put a newer edition in the place of a rule set: checked first, used from then on.

    Example: celium-ops rules update 2026-09.yml
    """
    from celium_ops.cli import views
    from celium_ops.verdict.ruleset import install

    found, kept = install(file)
    if settings.json:
        views.print_json(settings, {"ok": True, "rulesets": [_document(found)], "file": str(kept)})
    else:
        views.out().print(f"{_headline(found)}\nkept as {kept}; delete it to go back to the one that came with us")


def _age(rules: RuleSet) -> int:
    return rules.age_days(datetime.now(UTC).date())


def _document(rules: RuleSet) -> dict[str, Any]:
    return {**rules.model_dump(mode="json", by_alias=True), "age_days": _age(rules)}


def _headline(rules: RuleSet) -> str:
    return f"[bold]{rules.name}[/]  of {rules.date}, {_age(rules)} days old, {len(rules.gates)} gates. {rules.about}"


def _show_gates(rules: RuleSet) -> None:
    from rich.markup import escape
    from rich.table import Table

    from celium_ops.cli.views import out

    console = out()
    console.print(_headline(rules))
    table = Table(box=None, pad_edge=False)
    for column in ("gate", "code", "looks at", "requires", "when missing", "failing is"):
        table.add_column(column)
    for gate in rules.gates:
        whom = {"host": "the host", "first": "its first card", "each": "each card"}[gate.of]
        whom += "" if gate.when == "always" else f" if {gate.when}"
        effect = "the history, too" if gate.clears else gate.effect
        table.add_row(gate.id, gate.code or "", whom, escape(gate.rule.words()), gate.missing, effect)
    console.print(table)
    for source in rules.sources.values():
        console.print(f"read in {source.what}, {source.date}")
