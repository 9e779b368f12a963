"""The scenario of each role: check, converge, idempotence, verify, on hosts of the lab that have no stack yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"
SCENARIOS = sorted(ROLES.glob("*/molecule/default/molecule.yml"))


def test_every_role_has_a_scenario():
    assert {file.parents[2].name for file in SCENARIOS} == {folder.name for folder in ROLES.iterdir()}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda file: file.parents[2].name)
def test_scenario(fleet, scenario):
    for platform in yaml.safe_load(scenario.read_text())["platforms"]:
        fleet.reset(platform["name"])
    programs = Path(sys.executable).parent
    environment = {
        **fleet.lab.env,
        "CELIUM_OPS_INVENTORY": str(fleet.lab.inventory),
        "PATH": f"{programs}:{fleet.lab.env['PATH']}",
    }
    command = [programs / "molecule", "test"]
    done = subprocess.run(
        command, cwd=scenario.parents[2], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "actions=5  successful=5" in done.stderr, "each step of the sequence has run"
