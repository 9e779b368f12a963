"""The journal: every run with who, what and the result of each host, in one SQLite file per fleet."""

from __future__ import annotations

import getpass
import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from celium_ops.base.errors import CeliumError

State = Literal["running", "ok", "failed", "interrupted", "died"]

_SCHEMA = """
create table if not exists run (
    id text primary key, began text not null, ended text, command text not null, inputs text not null,
    user text not null, process integer not null, state text not null);
create table if not exists host (
    run text not null references run (id), name text not null, result text not null, changed integer not null,
    seconds real not null, error text, primary key (run, name));
create table if not exists detail (run text primary key references run (id), content text not null);
"""


@dataclass(frozen=True)
class HostEntry:
    """What became of one host in a run."""

    name: str
    result: str
    changed: int
    seconds: float
    error: str | None


@dataclass(frozen=True)
class Run:
    """One run; ``ended`` is null while it is under way, and for one that died."""

    id: str
    began: str
    ended: str | None
    command: str
    inputs: dict[str, Any]
    user: str
    process: int
    state: State
    hosts: list[HostEntry] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the run as ``runs --json`` promises it."""
        return asdict(self)


class Journal:
    """The runs of one fleet; every method is one transaction."""

    def __init__(self, fleet: Path) -> None:
        self.path = fleet / "journal.sqlite3"

    def begin(self, command: str, inputs: dict[str, Any]) -> str:
        """Note that a run begins, before anything is touched, and return its id (UTC time and a few random letters)."""
        now = datetime.now(UTC)
        run = f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:4]}"
        values = (run, now.isoformat(), command, json.dumps(inputs), getpass.getuser(), os.getpid())
        with self._open() as database:
            database.execute("insert into run values (?, ?, null, ?, ?, ?, ?, 'running')", values)
        return run

    def finish(self, run: str, state: State, hosts: Iterable[HostEntry] = ()) -> None:
        """Note how a run ended."""
        with self._open() as database:
            rows = [(run, host.name, host.result, host.changed, host.seconds, host.error) for host in hosts]
            database.executemany("insert into host values (?, ?, ?, ?, ?, ?)", rows)
            database.execute("update run set ended = ?, state = ? where id = ?", (_now(), state, run))

    def detail(self, run: str, content: dict[str, Any]) -> None:
        """Keep what a run is about, beyond its inputs and hosts: one document, which a later one replaces."""
        with self._open() as database:
            database.execute("insert or replace into detail values (?, ?)", (run, json.dumps(content)))

    def details(self, command: str, limit: int) -> Iterable[tuple[Run, dict[str, Any]]]:
        """Return the newest runs of a command that kept a document, newest first, with it."""
        query = (
            "select run.*, detail.content from run join detail on detail.run = run.id where command = ?"
            " order by began desc, run.rowid desc limit ?"
        )
        with self._open() as database:
            rows = [dict(row) for row in database.execute(query, (command, limit))]
        contents = [json.loads(row.pop("content")) for row in rows]
        return zip(map(_run, rows), contents, strict=True)

    def list(self, limit: int) -> list[Run]:
        """Return the newest runs, newest first, without their hosts."""
        with self._open() as database:
            rows = database.execute("select * from run order by began desc, rowid desc limit ?", (limit,)).fetchall()
        return [_run(dict(row)) for row in rows]

    def show(self, run: str) -> Run | None:
        """Return one run with its hosts; null when there is none of this id."""
        with self._open() as database:
            row = database.execute("select * from run where id = ?", (run,)).fetchone()
            if row is None:
                return None
            query = "select name, result, changed, seconds, error from host where run = ? order by rowid"
            hosts = [HostEntry(**host) for host in database.execute(query, (run,))]
        return _run(dict(row), hosts)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as database, database:
                database.row_factory = sqlite3.Row
                database.executescript(_SCHEMA)
                yield database
        except sqlite3.Error as error:
            raise CeliumError(
                f"the journal cannot be used: {error}",
                remedy="move the file away; a new journal is begun",
                file=str(self.path),
                code="journal",
            ) from error


def _run(row: Mapping[str, Any], hosts: Iterable[HostEntry] = ()) -> Run:
    values = {**row, "inputs": json.loads(row["inputs"]), "hosts": [*hosts]}
    if values["state"] == "running" and not Path(f"/proc/{values['process']}").exists():
        values["state"] = "died"
    return Run(**values)


def _now() -> str:
    return datetime.now(UTC).isoformat()
