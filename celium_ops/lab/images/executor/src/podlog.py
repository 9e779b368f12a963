"""The executor's one table: what happened to the containers of the host."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from migrations import Migrations, upgrade
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from sqlalchemy import Engine

# Upstream's only revision, of both dialects; a real executor goes on from it. Where an earlier stand-in made the table,
# it is there without a revision, on which upstream's migration fails and this one does not.
MIGRATIONS: Migrations = (
    (
        "8b04ab8f89f9",
        (
            """CREATE TABLE IF NOT EXISTS podlog (
                uuid uuid NOT NULL CONSTRAINT podlog_pkey PRIMARY KEY,
                container_name varchar,
                container_id varchar,
                event varchar,
                exit_code integer,
                reason varchar,
                error varchar,
                created_at timestamp without time zone NOT NULL)""",
        ),
    ),
)


def _now() -> datetime.datetime:
    # The column has no zone; upstream means UTC.
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class PodLog:
    """One event of a container."""

    container_name: str | None
    container_id: str | None
    event: str | None
    exit_code: int | None = None
    reason: str | None = None
    error: str | None = None
    uuid: UUID = field(default_factory=uuid4)
    created_at: datetime.datetime = field(default_factory=_now)


class PodLogs:
    """The table.

    Args:
        uri: an SQLAlchemy database URI.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._engine: Engine = create_engine(uri, pool_pre_ping=True)

    def migrate(self) -> int:
        """Make the table when it is missing; return alembic's exit code, raise what the driver raises."""
        return upgrade(self._uri, MIGRATIONS)

    def add(self, entry: PodLog) -> None:
        """Insert one event."""
        values = asdict(entry)
        names = ", ".join(values)
        places = ", ".join(f":{name}" for name in values)
        with self._engine.begin() as connection:
            connection.execute(text(f"INSERT INTO podlog ({names}) VALUES ({places})"), values)  # noqa: S608 -- field names

    def of_container(self, name: str) -> list[dict[str, Any]]:
        """Return the events of one container, oldest first."""
        with self._engine.begin() as connection:
            rows = connection.execute(
                text("SELECT * FROM podlog WHERE container_name = :name ORDER BY created_at"), {"name": name}
            )
            return [dict(row._mapping) for row in rows]
