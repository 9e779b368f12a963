"""Sessions at the database of the first miner, beside the one that the module under test has."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager

from fleet import wait_for

PSQL = 'exec psql -qAtX -U "$POSTGRES_USER" -d "$POSTGRES_DB"'


def write(fleet, statement):
    """Run SQL that may change something; return what it says."""
    script = f"docker exec -i miner-db-1 sh -c '{PSQL} -v ON_ERROR_STOP=1'"
    return fleet.lab.pipe("miner-1", script, statement.encode()).decode().strip()


@contextmanager
def session(fleet):
    """Give a session at the database, to which SQL can be said."""
    command = ["docker", "exec", "-i", fleet.lab.docker_name("miner-1"), "docker", "exec", "-i", "miner-db-1"]
    with subprocess.Popen([*command, "sh", "-c", PSQL], stdin=subprocess.PIPE, text=True) as process:

        def say(sql):
            process.stdin.write(sql + "\n")
            process.stdin.flush()

        yield say
        process.stdin.close()


def waits(fleet):
    """Tell whether somebody waits for the registry."""
    return write(fleet, "select count(*) from pg_locks where not granted") != "0"


@contextmanager
def busy(fleet):
    """Give a session at the database that lets nobody write to the registry until it commits."""
    with session(fleet) as say:
        say("begin; lock table executor in share mode;")
        wait_for(lambda: write(fleet, "select count(*) from pg_locks where mode = 'ShareLock' and granted") != "0")
        yield say
