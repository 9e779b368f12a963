"""Brings the validator's database to the newest schema."""

from __future__ import annotations

import os
import sys

from migrations import upgrade
from standin import DIALECT

# Upstream's revisions of each dialect, as one step: nobody starts from an older one.
CELIUM = (
    "0653dc97382a",
    (
        "CREATE TYPE taskstatus AS ENUM ('Initiated', 'SSHConnected', 'Failed', 'Finished')",
        """CREATE TABLE task (
            uuid uuid NOT NULL CONSTRAINT task_pkey PRIMARY KEY,
            task_status taskstatus,
            miner_hotkey varchar NOT NULL,
            created_at timestamp NOT NULL,
            proceed_time integer,
            score double precision,
            executor_id uuid NOT NULL)""",
        """CREATE TABLE executor (
            uuid uuid NOT NULL CONSTRAINT executor_pkey PRIMARY KEY,
            miner_address varchar NOT NULL,
            miner_port integer NOT NULL,
            miner_hotkey varchar NOT NULL,
            executor_id uuid NOT NULL,
            executor_ip_address varchar NOT NULL,
            executor_ssh_username varchar NOT NULL,
            executor_ssh_port integer NOT NULL,
            rented boolean)""",
    ),
)
LIUM = (
    "5a2cd580f6ca",
    (
        """CREATE TABLE portmapping (
            uuid uuid NOT NULL CONSTRAINT portmapping_pkey PRIMARY KEY,
            miner_hotkey varchar NOT NULL,
            executor_id uuid NOT NULL,
            internal_port integer NOT NULL,
            external_port integer NOT NULL,
            is_successful boolean NOT NULL,
            verification_time timestamp NOT NULL,
            rented_for_pod_id uuid,
            docker_port integer)""",
    ),
)

if __name__ == "__main__":
    # Upstream's migration reads no other setting.
    sys.exit(upgrade(os.environ["SQLALCHEMY_DATABASE_URI"], (CELIUM, LIUM) if DIALECT == "lium" else (CELIUM,)))
