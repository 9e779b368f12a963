"""Rule sets: what the validator checked at a date; they came with us, or the operator put newer ones in their place."""

from __future__ import annotations

import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from celium_ops.base.errors import UsageError
from celium_ops.base.files import write_atomic
from celium_ops.base.paths import state_dir
from celium_ops.verdict.rules import Record, Rule, Table, Unobservable

NAMES = ("2025-08", "2025-12", "2026-09")
"""The rule sets that come with us, by the date of upstream's code that they describe."""


class Source(Record):
    """Where rules were read, and when that was written."""

    what: str
    date: datetime.date


class Gate(Record):
    """One check of the validator's.

    Attributes:
        id: upstream's name of the check, with a suffix where we split one.
        code: upstream's reason when it fails; null where we know of none.
        of: whom it looks at: the host, its first card, or each card.
        when: which hosts it looks at.
        seen_by: what of ours measures it: the proof of the GPUs, or preflight.
        rule: what must hold.
        missing: what the validator does with a host that does not have the fact.
        effect: what failing does: the check is ``fatal``, the score is ``zero``, or nothing yet (``shadow``).
        clears: it also loses its history of good checks.
        unit: of what is measured.
        remedy: what to do about it.
        source: a key of the rule set's sources.
    """

    id: str
    code: str | None
    of: Literal["host", "first", "each"] = "host"
    when: Literal["always", "unrented", "rented"] = "always"
    seen_by: Literal["proof", "preflight"] = "proof"
    rule: Rule
    missing: Literal["pass", "fail", "unknown"] = "unknown"
    effect: Literal["fatal", "zero", "shadow"] = "fatal"
    clears: bool = False
    unit: str | None = None
    remedy: str
    source: str

    @property
    def observable(self) -> bool:
        """Tell whether anything on this side shows it."""
        return not isinstance(self.rule, Unobservable)


class RuleSet(Record):
    """What the validator checked at ``date``, in its order."""

    schema_: Literal["celium-ops/ruleset/1"] = Field(alias="schema")
    # It becomes the name of a file.
    name: Annotated[str, Field(pattern=r"^[0-9a-z][0-9a-z.-]*$")]
    date: datetime.date
    about: str
    sources: dict[str, Source]
    tables: dict[str, Table]
    gates: tuple[Gate, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        ids = [gate.id for gate in self.gates]
        if len(set(ids)) != len(ids):
            raise ValueError("a gate's id stands twice")
        for gate in self.gates:
            table = getattr(gate.rule, "table", None)
            if table is not None and table not in self.tables:
                raise ValueError(f"{gate.id} asks for the table {table}, which is not there")
            if gate.source not in self.sources:
                raise ValueError(f"{gate.id} names the source {gate.source}, which is not there")
        return self

    def of_the_proof(self) -> Self:
        """Return the rules about what the proof of the GPUs measures, and no others."""
        return self.model_copy(update={"gates": tuple(gate for gate in self.gates if gate.seen_by == "proof")})

    def of_fact(self, fact: str) -> Self:
        """Return the rules about one fact, and no others; one that only looks something up by it is not about it."""
        return self.model_copy(
            update={"gates": tuple(gate for gate in self.gates if getattr(gate.rule, "fact", None) == fact)}
        )

    def age_days(self, today: datetime.date) -> int:
        """Return how old the rules are; validators change theirs within weeks."""
        return (today - self.date).days


def load(name: str) -> RuleSet:
    """Return a rule set: the operator's, or else the one that came with us.

    Raises:
        UsageError: there is none of that name, or the operator's cannot be read.
    """
    own = updated(name)
    return read(own) if own.exists() else supplied(name)


def supplied(name: str) -> RuleSet:
    """Return a rule set as it came with us.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in NAMES:
        raise UsageError(f"there is no rule set {name}", remedy=f"one of {', '.join(NAMES)}", code="no-such-ruleset")
    return _parsed(resources.files("celium_ops.verdict").joinpath("rulesets", f"{name}.yml").read_text(), name)


def names() -> list[str]:
    """Return the names of all rule sets, the operator's included."""
    return sorted({*NAMES, *(file.stem for file in updated("any").parent.glob("*.yml"))})


def read(file: Path) -> RuleSet:
    """Read a rule set from a file.

    Raises:
        UsageError: it cannot be read, or is none; where, and why.
    """
    try:
        return _parsed(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}", file=str(file)) from error


def install(file: Path) -> tuple[RuleSet, Path]:
    """Put the operator's file in the place of the rule set of its name; return it, and where it is kept.

    Raises:
        UsageError: it is no rule set.
    """
    found = read(file)
    kept = updated(found.name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, file.read_text())
    return found, kept


def updated(name: str) -> Path:
    """Return where the operator's own version of a rule set is kept."""
    return state_dir() / "rulesets" / f"{name}.yml"


def _parsed(text: str, where: str) -> RuleSet:
    try:
        return RuleSet.model_validate(yaml.load(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is no YAML: {' '.join(str(error).split())}", file=where) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"{where} is no rule set: {place}: {first['msg']}", file=where) from error
