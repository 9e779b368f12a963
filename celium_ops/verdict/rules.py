"""The kinds of rules that gates are made of: each looks at what was measured and says what it makes of it.

A fact that is not there was not looked at: the rule's answer is unknown. A fact that is null was looked at and the host
has none, so that the validator would find none either: what it does then is the gate's ``missing``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Facts = Mapping[str, Any]
Tables = Mapping[str, "Table"]
Result = Literal["pass", "fail", "missing", "unknown"]


class Record(BaseModel):
    """Something read from a file: what is not known to it is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Table(Record):
    """A list of the validator's by name: each entry has its value, or null where ours is not known.

    ``complete`` tells that what is not listed here is not listed there either.
    """

    complete: bool = True
    entries: dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """What a rule makes of the facts, and what was measured and required, for people."""

    result: Result
    measured: str | None
    required: str


class Comparison(Record):
    """A fact is held against what the rule itself says."""

    fact: str

    def required(self) -> str:
        """Return what is required of the fact."""
        raise NotImplementedError

    def holds(self, value: Any) -> bool:
        """Tell whether a value is so."""
        raise NotImplementedError

    def words(self) -> str:
        """Return what is required, for people."""
        return f"{self.fact} {self.required()}"

    def judge(self, facts: Facts, _before: Facts | None, _tables: Tables) -> Finding:
        """Compare."""
        return _compared(facts, self.fact, self.required(), self.holds)


class AtMost(Comparison):
    """A number has a largest value."""

    kind: Literal["at_most"]
    limit: float

    def required(self) -> str:
        """Return the limit."""
        return f"at most {self.limit:g}"

    def holds(self, value: float) -> bool:
        """Compare."""
        return value <= self.limit


class AtLeast(Comparison):
    """A number has a smallest value."""

    kind: Literal["at_least"]
    limit: float

    def required(self) -> str:
        """Return the limit."""
        return f"at least {self.limit:g}"

    def holds(self, value: float) -> bool:
        """Compare."""
        return value >= self.limit


class VersionAtLeast(Comparison):
    """A version is not older than another, number by number."""

    kind: Literal["version_at_least"]
    limit: str

    def required(self) -> str:
        """Return the limit."""
        return f"{self.limit} or newer"

    def holds(self, value: str) -> bool:
        """Compare."""
        return _numbers(value) >= _numbers(self.limit)


class Equals(Comparison):
    """A fact has one value."""

    kind: Literal["equals"]
    value: bool | int | str

    def required(self) -> str:
        """Return the value."""
        return _shown(self.value)

    def holds(self, value: object) -> bool:
        """Compare."""
        return value == self.value

    def words(self) -> str:
        """Return what is required, for people."""
        return f"{self.fact} is {self.required()}"


class Same(Record):
    """Two facts have the same value."""

    kind: Literal["same"]
    fact: str
    other: str

    def words(self) -> str:
        """Return what is required, for people."""
        return f"{self.fact} is {self.other}"

    def judge(self, facts: Facts, _before: Facts | None, _tables: Tables) -> Finding:
        """Compare."""
        if self.other not in facts:
            return Finding("unknown", None, f"the same as {self.other}")
        wanted = facts[self.other]
        return _compared(facts, self.fact, f"{_shown(wanted)} ({self.other})", lambda value: value == wanted)


class Unchanged(Record):
    """A fact is what it was when the host was last seen; the first time anything will do."""

    kind: Literal["unchanged"]
    fact: str

    def words(self) -> str:
        """Return what is required, for people."""
        return f"{self.fact} as before"

    def judge(self, facts: Facts, before: Facts | None, _tables: Tables) -> Finding:
        """Compare."""
        wanted = (before or {}).get(self.fact)
        required = "unchanged" if wanted is None else f"{_shown(wanted)}, as before"
        return _compared(facts, self.fact, required, lambda value: wanted is None or value == wanted)


class Listed(Record):
    """A name is in one of the validator's tables."""

    kind: Literal["listed"]
    fact: str
    table: str

    def words(self) -> str:
        """Return what is required, for people."""
        return f"{self.fact} among the {self.table}"

    def judge(self, facts: Facts, _before: Facts | None, tables: Tables) -> Finding:
        """Look it up."""
        table = tables[self.table]
        required = f"one of {len(table.entries)} {self.table}"
        finding = _compared(facts, self.fact, required, lambda value: value in table.entries)
        if finding.result == "fail" and not table.complete:
            return Finding("unknown", finding.measured, f"{required} that are known; the validator's list has more")
        return finding


class Entry(Record):
    """A fact is what one of the validator's tables has for a name."""

    kind: Literal["entry"]
    fact: str
    key: str
    table: str

    def words(self) -> str:
        """Return what is required, for people."""
        return f"{self.fact} as the {self.table} have it"

    def judge(self, facts: Facts, _before: Facts | None, tables: Tables) -> Finding:
        """Look it up and compare; a name that is not listed is the business of another gate."""
        wanted = tables[self.table].entries.get(str(facts.get(self.key)))
        if wanted is None:
            return Finding("unknown", _measured(facts, self.fact), f"what the validator has for {facts.get(self.key)}")
        return _compared(facts, self.fact, _shown(wanted), lambda value: value == wanted)


class Within(Record):
    """A number is close to one of the sizes that a table has for a name."""

    kind: Literal["within"]
    fact: str
    key: str
    table: str
    low: float
    high: float

    def words(self) -> str:
        """Return what is required, for people."""
        return f"{self.fact} from {self.low:.0%} to {self.high:.0%} of its {self.table}"

    def judge(self, facts: Facts, _before: Facts | None, tables: Tables) -> Finding:
        """Look the sizes up and compare."""
        sizes = tables[self.table].entries.get(str(facts.get(self.key)))
        if not sizes:
            return Finding("unknown", _measured(facts, self.fact), f"the sizes of {facts.get(self.key)} are not known")
        windows = [(self.low * size, self.high * size) for size in sizes]
        required = " or ".join(f"{low:.0f} to {high:.0f}" for low, high in windows)
        return _compared(facts, self.fact, required, lambda value: any(low <= value <= high for low, high in windows))


class Idle(Record):
    """Nobody computes: no process, or hardly any load."""

    kind: Literal["idle"]
    processes: str
    loads: dict[str, float]
    strict: list[str] = []
    """The loads that may not even be equal to their limit."""

    def words(self) -> str:
        """Return what is required, for people."""
        return (
            " and ".join(f"{name} {limit:g}" for name, limit in self.loads.items())
            + f" at most, or no {self.processes}"
        )

    def judge(self, facts: Facts, _before: Facts | None, _tables: Tables) -> Finding:
        """Look at the processes, then at the loads."""
        limits = [f"{name} {'<' if name in self.strict else '≤'} {limit:g}" for name, limit in self.loads.items()]
        required = f"no process, or {' and '.join(limits)}"
        if any(name not in facts for name in (self.processes, *self.loads)):
            return Finding("unknown", None, required)
        values = {name: facts[name] for name in self.loads}
        if None in (facts[self.processes], *values.values()):
            return Finding("missing", None, required)
        low = all(
            value < self.loads[name] if name in self.strict else value <= self.loads[name]
            for name, value in values.items()
        )
        measured = ", ".join(f"{name} {value:g}" for name, value in values.items())
        measured = f"{facts[self.processes]} processes, {measured}"
        return Finding("pass" if low or not facts[self.processes] else "fail", measured, required)


class Ghost(Record):
    """Load without anything that could cause it: full utilisation, empty memory, no process."""

    kind: Literal["ghost"]
    utilisation: float
    memory_utilisation: float

    def words(self) -> str:
        """Return what is required, for people."""
        return f"no utilisation of {self.utilisation:g} without a process"

    def judge(self, facts: Facts, _before: Facts | None, _tables: Tables) -> Finding:
        """Look for it."""
        names = ("processes", "utilisation", "memory_utilisation")
        required = f"utilisation below {self.utilisation:g} where no process is and memory is empty"
        if any(name not in facts for name in names):
            return Finding("unknown", None, required)
        processes, busy, memory = (facts[name] for name in names)
        if None in (processes, busy, memory):
            return Finding("missing", None, required)
        ghost = not processes and busy >= self.utilisation and memory <= self.memory_utilisation
        return Finding("fail" if ghost else "pass", f"utilisation {busy:g}, memory {memory:g}", required)


class Unobservable(Record):
    """Nobody on this side can see it."""

    kind: Literal["unobservable"]
    why: str

    def words(self) -> str:
        """Return what is required, for people."""
        return f"cannot be seen: {self.why}"

    def judge(self, _facts: Facts, _before: Facts | None, _tables: Tables) -> Finding:
        """Say so."""
        return Finding("unknown", None, self.why)


Rule = Annotated[
    AtMost
    | AtLeast
    | VersionAtLeast
    | Equals
    | Same
    | Unchanged
    | Listed
    | Entry
    | Within
    | Idle
    | Ghost
    | Unobservable,
    Field(discriminator="kind"),
]


def _compared(facts: Facts, name: str, required: str, holds: Any) -> Finding:
    if name not in facts:
        return Finding("unknown", None, required)
    value = facts[name]
    if value is None:
        return Finding("missing", None, required)
    return Finding("pass" if holds(value) else "fail", _shown(value), required)


def _measured(facts: Facts, name: str) -> str | None:
    value = facts.get(name)
    return None if value is None else _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(sorted(map(str, value)))
    return str(value)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
