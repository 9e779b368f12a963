"""Which cards hosts have shown before, and what changed since: validators begin a history anew with other cards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from celium_ops.base.checks import Check
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import Journal
from celium_ops.workflows.proofs import COMMAND, REMEMBERED

Cards = frozenset[str]
"""UUIDs."""


@dataclass(frozen=True)
class Shown:
    """What NVML showed of a host when its GPUs were last examined.

    ``day`` is the date (UTC), ``place`` the executor's address:port at that time, null in old journals.
    """

    day: str
    place: str | None
    cards: Cards


def last_shown(inventory: Path) -> dict[str, Shown]:
    """Return what each host showed last, whatever came of its proof; hosts that have left the inventory too.

    Cards that are simulated were shown by nobody's NVML, and are left out.
    """
    found: dict[str, Shown] = {}
    for run, content in Journal(fleet_dir(inventory)).details(COMMAND, REMEMBERED):
        for host in content["hosts"]:
            uuids = host["prediction"]["facts"]["host"].get("uuids") if host["prediction"] else None
            if uuids:
                place = content.get("places", {}).get(host["name"])
                found.setdefault(host["name"], Shown(run.began[:10], place, frozenset(uuids)))
    return found


def changes(now: Mapping[str, Cards], places: Mapping[str, str], before: Mapping[str, Shown]) -> dict[str, Check]:
    """Return of each host whether its cards are those of before, with where others came from or went to; pure.

    A host of another address is another executor, with no history of its own; a card that it has from another host is
    named all the same.

    Args:
        now: the cards of the hosts that show any.
        places: the executors' address:port now.
        before: what hosts showed last.
    """
    found = {}
    for name, cards in now.items():
        last = before.get(name)
        known = last is not None and last.place == places[name]
        had = last.cards if last is not None and known else Cards()
        others = {other: shown for other, shown in before.items() if other != name and shown.place != places[name]}
        said = [_came(uuid, others, known) for uuid in sorted(cards - had)]
        said += [_gone(uuid, name, now) for uuid in sorted(had - cards)]
        if check := _check([words for words in said if words], last.day if last is not None and known else None):
            found[name] = check
    return found


def _came(uuid: str, before: Mapping[str, Shown], known: bool) -> str | None:
    owners = [other for other, shown in before.items() if uuid in shown.cards]
    if owners:
        return f"{uuid} was in {max(owners, key=lambda other: before[other].day)}"
    return f"{uuid} is new" if known else None


def _gone(uuid: str, name: str, now: Mapping[str, Cards]) -> str:
    owner = next((other for other, cards in now.items() if other != name and uuid in cards), None)
    return f"{uuid} is in {owner} now" if owner else f"{uuid} is gone"


def _check(said: Collection[str], day: str | None) -> Check | None:
    if not said:
        return Check("gpu.changed", "pass", f"its cards are those of {day}") if day else None
    message = f"{f'since {day}: ' if day else ''}{'; '.join(said)}"
    remedy = "put back what was changed, or let the history of this host begin anew with validators"
    # Upstream's gpu.validate.fingerprint, 2025-08 and since: another set of UUIDs than the one it has verified.
    return Check("gpu.changed", "warn", message, remedy=remedy, code="GPU_UUID_CHANGED" if day else None)
