"""Random lives of a fleet: edits, tampering, deploys that are killed, deploys. Who is called converged is converged.

The judge is a full play in check mode, which asks every task. ``make test`` runs two rounds of a fixed seed; ``make
campaign`` two hundred of another, and keeps its counts in ``bench/results/plan_campaign.json``.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tampering import FIRST

RESULT = Path(__file__).parents[2] / "bench" / "results" / "plan_campaign.json"
EDITS = {
    "executor_renting_port_range": ["41000-41100", "42000-42100", None],
    "celium_start_timeout": [240, 310, None],
    "executor_external_port": [8011, 8012, None],
    "nvidia_docker_hold": [False, None],
}


def live(fleet, chance, seen):
    """Let the fleet live through one round, which may end with a deploy that was killed."""
    for _ in range(chance.randint(1, 4)):
        event = chance.choice(["edit", "tamper", "tamper", "deploy", "kill"])
        seen[event] += 1
        if event == "edit":
            key = chance.choice(list(EDITS))
            fleet.set_variable(chance.choice(["executor-1", "executor-2"]), key, chance.choice(EDITS[key]))
        elif event == "tamper":
            one = chance.choice(FIRST)
            fleet.on(one.host, f"( {one.script} ) >/dev/null 2>&1 || true")  # it may have been done before
        elif event == "deploy":
            fleet.deploy()
        else:
            killed = fleet.lab.start("-i", str(fleet.lab.inventory), "deploy", "--full")
            try:
                killed.communicate(timeout=chance.uniform(1, 25))
            except subprocess.TimeoutExpired:
                killed.kill()
                killed.communicate()


def judged(fleet, chance, rounds):
    """Live through rounds; after each, whoever the plan calls converged is asked by a full play in check mode."""
    seen = Counter()
    before = fleet.lab.inventory.read_bytes()
    try:
        for number in range(rounds):
            live(fleet, chance, seen)
            if chance.random() < 0.7:
                seen["healing deploy"] += 1
                answer = fleet.deploy()
                assert answer["ok"], (number, answer)
            converged = [host["name"] for host in fleet.run_json("plan")["hosts"] if host["state"] == "converged"]
            seen["called converged"] += len(converged)
            if converged:
                check = fleet.deploy("--full", "--check", "--limit", ",".join(converged))
                changes = {host["name"]: host["changes"] for host in check["hosts"] if host["changed"]}
                assert not changes, (number, changes)
    finally:
        fleet.lab.inventory.write_bytes(before)
        assert fleet.deploy()["ok"]
    return seen


def test_who_is_called_converged_is_converged(deployed):
    assert judged(deployed, random.Random(7), 2)["called converged"]  # noqa: S311  the same rounds every time


@pytest.mark.campaign
@pytest.mark.timeout(36000)
def test_two_hundred_rounds(deployed):
    seen = judged(deployed, random.Random(51), 200)  # noqa: S311  the same rounds every time
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(seen, indent=1) + "\n")
