"""Brings the miner's database to the newest schema."""

from __future__ import annotations

import sys

from migrations import upgrade
from settings import load
from store import MIGRATIONS

if __name__ == "__main__":
    sys.exit(upgrade(load().sqlalchemy_database_uri, MIGRATIONS))
