"""How long it takes to give 1000 executors of a miner to another validator: on a lab of its own, one miner.

Run it by ``make bench``, or ``.venv/bin/python bench/registry_switches.py --rows 5000``. What is timed is the whole
playbook ``celium.ops.register``, from its start to the rows read back, over SSH and into a real Postgres. Upstream's
command line takes 2 to 3 s for each row. Writes ``bench/results/registry_switches.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile

from fleet_times import LAB, celium, report, timed, use_lab

# Two hotkeys to go from and to; nobody has their keys here.
VALIDATORS = ("5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
MINER = "miner-1"


def main() -> None:
    """Build the lab, fill the registry, time the switches, keep the figures, take the lab down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="executors in the registry (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    wanted = parser.parse_args()
    use_lab()
    celium("lab", "down", "--yes")
    try:
        celium("lab", "up", "--miners", "1", "--executors", "0", "--validators", "0")
        inventory = celium("lab", "inventory").splitlines()[-1]
        timed("celium-ops", "deploy", "-i", inventory)
        report("registry_switches", measure(inventory, wanted.rows, wanted.rounds), rows=wanted.rows)
    finally:
        celium("lab", "down", "--yes")


def measure(inventory: str, rows: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round, by what was done."""
    old, new = VALIDATORS
    fill = f"select gen_random_uuid(), '10.0.' || n / 250 || '.' || n % 250 + 1, 8001, '{old}'"
    sql(f"insert into executor {fill} from generate_series(0, {rows - 1}) n")
    seconds: dict[str, list[float]] = {"switch all rows": [], "nothing to do": [], "ansible all -m ping": []}
    for _ in range(rounds):
        before = sql("select uuid from executor order by uuid")
        seconds["switch all rows"].append(register(inventory, rows, old, new))
        seconds["nothing to do"].append(register(inventory, rows, None, new))
        seconds["ansible all -m ping"].append(timed("ansible", "-i", inventory, "all", "-m", "ping"))
        after = sql("select uuid from executor order by uuid")
        if (sql("select distinct validator from executor"), after) != (new, before):
            sys.exit("the rows are not as they were wanted")
        old, new = new, old
    return seconds


def register(inventory: str, rows: int, expected: str | None, validator: str) -> float:
    """Have the miner register every executor for one validator; return the seconds."""
    executors = [
        {
            "name": f"gpu-{n}",
            "miner": MINER,
            "address": f"10.0.{n // 250}.{n % 250 + 1}",
            "port": 8001,
            "validator": validator,
            "expected": expected,
        }
        for n in range(rows)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"miner_executors": executors}, file)
        file.flush()
        return timed("ansible-playbook", "-i", inventory, "celium.ops.register", "-e", f"@{file.name}")


def sql(statement: str) -> str:
    """Ask the miner's database, by a way that is not ours."""
    psql = 'exec psql -qAtX -U "$POSTGRES_USER" -d "$POSTGRES_DB"'
    inside = ["docker", "exec", "-i", f"celium-lab-{LAB}-{MINER}", "docker", "exec", "-i", "miner-db-1"]
    done = subprocess.run([*inside, "sh", "-c", psql], input=statement, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
