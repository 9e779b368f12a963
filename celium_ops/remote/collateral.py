"""What the collateral contract holds for the executors of a miner, by the miner's own command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.model import Connection
from celium_ops.remote.ssh import ask

_SECONDS = 130.0
_SECONDS_EACH = 2.0
"""Upstream's command line takes longer, but several are asked at once."""


def collaterals(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Return the TAO for each row (address, port, uuid) of a miner of dialect celium; null where nobody can tell."""
    source = (collection_dir() / "plugins" / "module_utils" / "upstream_cli.py").read_text()
    asked = json.dumps(rows)
    # After the program comes the question: as an argument it would be too long for a large fleet.
    script = f"{source}\nimport json, sys\njson.dump(collaterals(json.loads({asked!r})), sys.stdout)\n"
    command = ["python3", "-I", "-S", "-"]
    answer = ask({"miner": connection}, {"miner": command}, script, _SECONDS + _SECONDS_EACH * len(rows))["miner"]
    try:
        found: list[float | None] = json.loads(answer.output or "")
    except ValueError:
        return [None] * len(rows)
    return found
