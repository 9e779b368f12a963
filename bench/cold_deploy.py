"""A first deploy, beside the same roles under plain ``ansible-playbook``: each on hosts that are new.

Run it by ``.venv/bin/python bench/cold_deploy.py``. Plain Ansible has pipelining, and its default settings otherwise
(five forks). Both find the same images in the same registry. Writes ``bench/results/cold_deploy.json``.
"""

from __future__ import annotations

import argparse
import statistics

from fleet_times import celium, report, timed, use_lab


def main() -> None:
    """Build and take down a lab for each round, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", type=int, default=3, help="executors beside one miner (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each, in turns (default 5)")
    wanted = parser.parse_args()
    use_lab()
    seconds: dict[str, list[float]] = {"celium-ops deploy": [], "ansible-playbook": [], "ansible all -m ping": []}
    for _ in range(wanted.rounds):
        for what, command in (
            ("celium-ops deploy", ("celium-ops", "deploy")),
            ("ansible-playbook", ("ansible-playbook", "celium.ops.site")),
        ):
            at = ("-i", new_lab(wanted.executors))
            seconds["ansible all -m ping"].append(timed("ansible", *at, "all", "-m", "ping"))
            seconds[what].append(timed(*command, *at))
    celium("lab", "down", "--yes")
    report("cold_deploy", seconds, hosts=wanted.executors + 1)
    ours, theirs = (statistics.median(seconds[what]) for what in ("celium-ops deploy", "ansible-playbook"))
    print(f"celium-ops / plain Ansible: {ours / theirs:.2f}")


def new_lab(executors: int) -> str:
    """Return the inventory of a lab whose hosts have had nothing yet."""
    celium("lab", "down", "--yes")
    celium("lab", "up", "--miners", "1", "--executors", str(executors), "--validators", "0")
    return celium("lab", "inventory").splitlines()[-1]


if __name__ == "__main__":
    main()
