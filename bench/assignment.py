"""How long the assignment of a large fleet takes, and how good it is: 10 000 executors, 64 validators.

Run it by ``make bench``, or ``.venv/bin/python bench/assignment.py``. Equal weights have the target of DESIGN, 100 ms;
unequal ones have none. Writes ``bench/results/assignment.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celium_ops import __version__
from celium_ops.assignment.model import Row, Validator
from celium_ops.assignment.solve import solve

HERE = Path(__file__).parent
WEIGHTS = [gpus * rate for gpus in (1, 2, 4, 8) for rate in (31, 100, 173, 250, 420)]


def main() -> None:
    """Time each kind of fleet, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", type=int, default=10_000, help="executors of the miner (default 10000)")
    parser.add_argument("--validators", type=int, default=64, help="permit holders (default 64)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (default 5)")
    wanted = parser.parse_args()
    kinds = measure(wanted.executors, wanted.validators, wanted.rounds)
    print(f"{wanted.executors} executors, {wanted.validators} validators; fastest of {wanted.rounds} rounds")
    for kind, figures in kinds.items():
        took = min(figures["ms"])  # others at work on the machine only slow it down
        print(
            f"{kind:24} {took:6.1f} ms {figures['moves']:6} moves, sum {figures['sum']:.1f}, gap {figures['gap']:.1f}"
        )
    result = {
        "version": __version__,
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        "executors": wanted.executors,
        "validators": wanted.validators,
        "kinds": kinds,
    }
    file = HERE / "results" / "assignment.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {file}")


def measure(executors: int, validators: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Return by kind the milliseconds of each round, the moves, the sum of squares and its gap to the bound."""
    draw = random.Random(51)  # noqa: S311 - the same fleet in each run; nothing is secret
    market = [Validator(f"5{uid:047}", int(10**15 * draw.paretovariate(1.2))) for uid in range(validators)]
    new = [Row(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}:8001") for n in range(executors)]
    anywhere = [replace(row, current=draw.choice(market).hotkey) for row in new]
    weighted = [replace(row, weight=draw.choice(WEIGHTS)) for row in anywhere]
    fleets = {
        "all new": new,
        "anywhere": anywhere,
        "as it was, stake changed": settled(anywhere, market),
        "weighted, anywhere": weighted,
        "weighted, stake changed": settled(weighted, market),
    }
    drifted = [replace(one, stake=one.stake * draw.randint(95, 105) // 100) for one in market]
    return {kind: timed(rows, drifted if "changed" in kind else market, rounds) for kind, rows in fleets.items()}


def settled(rows: list[Row], market: list[Validator]) -> list[Row]:
    """Return the fleet after its plan was carried out."""
    target = solve(rows, market).target
    return [replace(row, current=target[row.executor]) for row in rows]


def timed(rows: list[Row], market: list[Validator], rounds: int) -> dict[str, Any]:
    """Solve ``rounds`` times."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        plan = solve(rows, market)
        took.append(round((time.perf_counter() - began) * 1000, 1))
    return {"ms": took, "moves": len(plan.moves), "sum": float(plan.sum_after), "gap": float(plan.gap)}


if __name__ == "__main__":
    main()
