"""Random lives of a fleet: edits, tampering, deploys that are killed, deploys. Who is called converged is converged.

The judge is a full play in check mode, which asks every task, on the hosts that something happened to since it asked
them last. ``make test`` runs one round: an edit, and a tamper that a deploy cures; ``make campaign`` runs two hundred.
That takes hours, so ``bench/results/plan_campaign.json`` keeps what was done after each round, with the commit that it
was played on, and the next call goes on from there; after the last one anew.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tampering import FIRST

from celium_ops.base.files import write_atomic

RESULT = Path(__file__).parents[2] / "bench" / "results" / "plan_campaign.json"
ROUNDS = 200
EDITS = {
    "executor_renting_port_range": ["41000-41100", "42000-42100", None],
    "celium_start_timeout": [240, 310, None],
    "executor_external_port": [8011, 8012, None],
    "nvidia_docker_hold": [False, None],
}


def live(fleet, chance, seen):
    """Let the fleet live through one round, which may end with a deploy that was killed; return whom it befell."""
    befell = set()
    for _ in range(chance.randint(1, 4)):
        event = chance.choice(["edit", "tamper", "tamper", "deploy", "kill"])
        seen[event] += 1
        if event == "edit":
            key = chance.choice(list(EDITS))
            host = chance.choice(["executor-1", "executor-2"])
            fleet.set_variable(host, key, chance.choice(EDITS[key]))
            befell.add(host)
        elif event == "tamper":
            one = chance.choice(FIRST)
            fleet.on(one.host, f"( {one.script} ) >/dev/null 2>&1 || true")  # it may have been done before
            befell.add(one.host)
        elif event == "deploy":
            befell |= changed(fleet.deploy())
        else:
            befell |= set(fleet.names)
            killed = fleet.lab.start("-i", str(fleet.lab.inventory), "deploy", "--full")
            try:
                killed.communicate(timeout=chance.uniform(1, 25))
            except subprocess.TimeoutExpired:
                killed.kill()
                killed.communicate()
    return befell


def changed(answer):
    return {host["name"] for host in answer["hosts"] if host["changed"]}


def judged(fleet, chance, unasked):
    """Live through a round; then whoever the plan calls converged, and is unasked, is asked, and no longer unasked."""
    seen = Counter()
    unasked |= live(fleet, chance, seen)
    if chance.random() < 0.7:
        seen["healing deploy"] += 1
        answer = fleet.deploy()
        assert answer["ok"], answer
        unasked |= changed(answer)
    plan = fleet.run_json("plan")["hosts"]
    asked = [host["name"] for host in plan if host["state"] == "converged" and host["name"] in unasked]
    seen["called converged"] += len(asked)
    if asked:
        check = fleet.deploy("--full", "--check", "--limit", ",".join(asked))
        assert not {host["name"]: host["changes"] for host in check["hosts"] if host["changed"]}
    unasked -= set(asked)
    return seen


@pytest.fixture
def healed(deployed):
    """Give a deployed fleet, and leave one, without the rows of ports that executors had for a while."""
    before, rows = deployed.lab.inventory.read_bytes(), "select address, port from executor order by 1, 2"
    registered = deployed.sql(rows)
    yield deployed
    deployed.lab.inventory.write_bytes(before)
    assert deployed.deploy()["ok"]
    deployed.sql("delete from executor where port::int in (8011, 8012)")
    assert deployed.sql(rows) == registered


def test_who_is_called_converged_is_converged(healed):
    assert judged(healed, round_of(21, 0), set())["called converged"]


@pytest.mark.campaign
@pytest.mark.timeout(36000)
def test_two_hundred_rounds(healed):
    done = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if done.get("rounds", ROUNDS) == ROUNDS:
        done = {"rounds": 0, "commits": {}, "seen": {}}
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=RESULT.parent, capture_output=True, text=True, check=True).stdout.strip()
    unasked = set(healed.names)
    for number in range(done["rounds"], ROUNDS):
        seen = Counter(done["seen"]) + judged(healed, round_of(51, number), unasked)
        commits = Counter(done["commits"]) + Counter({commit: 1})
        done = {"rounds": number + 1, "commits": dict(commits), "seen": dict(sorted(seen.items()))}
        write_atomic(RESULT, json.dumps(done, indent=1) + "\n")


def round_of(seed, number):
    """Return what decides a round: the same whichever rounds were before it in this run."""
    return random.Random(f"{seed} {number}")  # noqa: S311  the same rounds every time
