"""How long a deploy, a deploy of what stands already, and a look at the fleet take: on a lab of their own.

Run it by ``make bench``, or ``.venv/bin/python bench/fleet_times.py --executors 9``. Seconds depend on the machine, so
each figure is also given as a multiple of one yardstick from the same run: ``ansible all -m ping``, the least that
plain Ansible does on the same hosts. Writes ``bench/results/fleet_times.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from celium_ops import __version__
from celium_ops.base.paths import collections_path

HERE = Path(__file__).parent
PROGRAMS = Path(sys.executable).parent
LAB = "bench"


def main() -> None:
    """Build the lab, time the commands, print and keep the figures, take the lab down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", type=int, default=3, help="executors beside one miner (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each command that changes nothing (default 3)")
    wanted = parser.parse_args()
    use_lab()
    celium("lab", "down", "--yes")
    try:
        celium("lab", "up", "--miners", "1", "--executors", str(wanted.executors), "--validators", "0")
        inventory = celium("lab", "inventory").splitlines()[-1]
        report("fleet_times", measure(inventory, wanted.rounds), hosts=wanted.executors + 1)
    finally:
        celium("lab", "down", "--yes")


def use_lab(**more: str) -> None:
    """Let whatever is started here meet the lab of the benches, and Ansible our collection, as quick as it can be."""
    os.environ |= {"CELIUM_LAB": LAB, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "ANSIBLE_PIPELINING": "True"}
    os.environ |= {"ANSIBLE_COLLECTIONS_PATH": collections_path(), **more}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # no operator has it; with it all code is compiled each time


def measure(inventory: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round, by what was done; the fleet is virgin before and deployed after."""
    at = ("-i", inventory)
    return {
        "deploy, cold": [timed("celium-ops", "deploy", *at)],
        "deploy, nothing to do": [timed("celium-ops", "deploy", *at) for _ in range(rounds)],
        "status": [timed("celium-ops", "status", *at) for _ in range(rounds)],
        "celium-ops --help": [timed("celium-ops", "--help") for _ in range(rounds)],
        "ansible all -m ping": [timed("ansible", *at, "all", "-m", "ping") for _ in range(rounds)],
    }


def report(name: str, seconds: dict[str, list[float]], **of: int) -> None:
    """Print the medians, and write them with what they were measured on to ``bench/results/NAME.json``."""
    medians = {what: statistics.median(rounds) for what, rounds in seconds.items()}
    yardstick = medians["ansible all -m ping"]
    counts = ", ".join(f"{count} {what}" for what, count in of.items())
    print(f"{counts}, {os.cpu_count()} cores; medians of {max(map(len, seconds.values()))} rounds")
    for what, median in medians.items():
        print(f"{what:24} {median:7.2f} s {median / yardstick:7.2f} pings")
    result = {
        "version": __version__,
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        **of,
        "seconds": {what: [round(one, 3) for one in rounds] for what, rounds in seconds.items()},
        "in_pings": {what: round(median / yardstick, 3) for what, median in medians.items()},
    }
    file = HERE / "results" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {file}")


def timed(*command: str) -> float:
    """Run a command, which has to succeed, and return the seconds it took."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def celium(*arguments: str) -> str:
    """Run ``celium-ops``, which has to succeed, and return its stdout."""
    return subprocess.run(["celium-ops", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
