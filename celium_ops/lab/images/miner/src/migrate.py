"""Brings the miner's database to the newest schema."""

from __future__ import annotations

import sys

from migrations import upgrade
from settings import Settings
from store import MIGRATIONS

if __name__ == "__main__":
    sys.exit(upgrade(Settings().sqlalchemy_database_uri, MIGRATIONS))
