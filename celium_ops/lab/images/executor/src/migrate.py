"""Makes the executor's table. Wrong settings or an absent database end the start here, with 1."""

from __future__ import annotations

import logging
import sys

from podlog import PodLogs
from settings import load

logging.basicConfig(level=logging.INFO)

if __name__ == "__main__":
    sys.exit(PodLogs(load().db_uri).migrate())
