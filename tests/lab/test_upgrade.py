"""A fleet that an earlier version deployed: today's takes it over without a restart. About 150 s."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fleet import UPGRADE_FROM

HOSTS = ("miner-1", "validator-1", "executor-1")


def deploy_as_before(fleet, folder):
    """Deploy with the code of ``UPGRADE_FROM``, its roles included."""
    collection = folder / "ansible_collections" / "celium" / "ops"
    collection.mkdir(parents=True)
    top = Path(__file__).parents[2]
    archive = subprocess.run(["git", "archive", UPGRADE_FROM], cwd=top, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(collection)], input=archive, check=True)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "celium_ops.cli.main",
            "-i",
            str(fleet.lab.inventory),
            "deploy",
            "--limit",
            ",".join(HOSTS),
        ],
        cwd=folder,  # Python looks there first
        env={**fleet.lab.env, "PYTHONPATH": str(collection)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def older_wallets(fleet):
    """Let the lab's wallets be those of older tools for a while: the number that today's write was no fleet's then."""
    kept = {file: file.read_bytes() for file in (fleet.lab.folder / "wallets").rglob("*") if file.is_file()}
    for file, content in kept.items():
        key = {name: value for name, value in json.loads(content).items() if name != "cryptoType"}
        file.write_text(json.dumps(key))
    yield
    for file, content in kept.items():
        file.write_bytes(content)


@pytest.mark.usefixtures("older_wallets")
def test_an_upgrade_restarts_nothing(fleet, tmp_path):
    for host in HOSTS:
        fleet.reset(host)
    deploy_as_before(fleet, tmp_path)
    record = json.loads(fleet.on("executor-1", "cat /var/lib/celium-ops/record.json"))
    assert "waits" not in record, "it is the earlier version's"
    before = {key: since for key, since in fleet.started().items() if key[0] in HOSTS}
    assert len(before) == 10
    answer = fleet.deploy("--limit", ",".join(HOSTS))
    assert answer["ok"], answer
    after = fleet.started()
    assert {key: after[key] for key in before} == before
    assert fleet.run_json("plan", "--limit", ",".join(HOSTS))["changes"] == 0
