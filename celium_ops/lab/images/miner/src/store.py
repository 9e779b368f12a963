"""The miner's tables: how they are made, and what the programs do with them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, text
from standin import DIALECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations import Migrations
    from sqlalchemy import Row

# Upstream's revisions of the dialect celium, as one step: nobody starts from an older one.
_CELIUM: Migrations = (
    (
        "eb0b92cbc38e",
        (
            """CREATE TABLE validator (
                uuid uuid NOT NULL CONSTRAINT validator_pkey PRIMARY KEY,
                validator_hotkey varchar NOT NULL CONSTRAINT validator_validator_hotkey_key UNIQUE,
                active boolean NOT NULL)""",
            # The constraint's name has upstream's spelling.
            """CREATE TABLE executor (
                uuid uuid NOT NULL CONSTRAINT executor_pkey PRIMARY KEY,
                address varchar NOT NULL,
                port integer NOT NULL,
                validator varchar NOT NULL,
                CONSTRAINT unique_contraint_address_port UNIQUE (address, port))""",
        ),
    ),
)
_LIUM: Migrations = (
    ("20ad305cfb00", ("ALTER TABLE executor ADD COLUMN price_per_hour double precision",)),
    ("33be5b1944a8", ("ALTER TABLE executor ADD COLUMN price_per_gpu double precision",)),
)
MIGRATIONS: Migrations = (*_CELIUM, *_LIUM) if DIALECT == "lium" else _CELIUM


class Store:
    """The miner's database.

    Args:
        uri: an SQLAlchemy database URI.
    """

    def __init__(self, uri: str) -> None:
        self.engine = create_engine(uri)

    def _run(self, statement: str, **values: object) -> Sequence[Row[Any]]:
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    def check(self) -> None:
        """Connect once; raises what the driver raises when nobody answers."""
        self._run("SELECT 1")

    def executors(self) -> Sequence[Row[Any]]:
        """Return every row, in the order Postgres happens to keep them: an updated row moves to the end."""
        return self._run("SELECT * FROM executor")

    def find(self, address: str, port: int) -> Row[Any] | None:
        """Return the row of an executor, None when there is none."""
        rows = self._run("SELECT * FROM executor WHERE address = :address AND port = :port", address=address, port=port)
        return rows[0] if rows else None

    def add(self, **values: object) -> uuid.UUID:
        """Insert an executor as it is given: upstream checks nothing but that address and port are new."""
        row = {"uuid": uuid.uuid4(), **values}
        names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
        self._run(f"INSERT INTO executor ({names}) VALUES ({places})", **row)  # noqa: S608 -- our own names
        return row["uuid"]

    def set(self, key: uuid.UUID, name: str, value: object) -> None:
        """Change a column of an executor; its uuid stays."""
        self._run(f"UPDATE executor SET {name} = :value WHERE uuid = :uuid", value=value, uuid=key)  # noqa: S608 -- as above

    def move(self, old: str, new: str) -> int:
        """Give all executors of one validator to another and return how many they are."""
        statement = "UPDATE executor SET validator = :new WHERE validator = :old RETURNING uuid"
        return len(self._run(statement, old=old, new=new))

    def remove(self, key: uuid.UUID) -> None:
        """Delete an executor's row."""
        self._run("DELETE FROM executor WHERE uuid = :uuid", uuid=key)
