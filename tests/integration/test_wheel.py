"""The wheel, installed into an empty environment and used from an empty folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command, cwd, environment=None):
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT), cwd=folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_it_carries_the_collection_and_nothing_that_is_only_for_developers(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"celium_ops", "ansible_collections"}
    collection = {name.split("/")[3] for name in names if name.startswith("ansible_collections/celium/ops/")}
    assert collection == {"inventory", "meta", "playbooks", "plugins", "roles", "templates"}
    assert not [name for name in names if re.search(r"molecule|/tests?/|__pycache__|\.pyc$", name)]


def test_it_works_in_an_empty_environment_from_an_empty_folder(wheel, tmp_path):
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(empty)}
    assert run(sys.executable, "-m", "venv", "--without-pip", str(venv), cwd=empty).returncode == 0
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "-q", "--no-compile"]
    install = run(*pip, "-c", ROOT / "constraints.txt", wheel, cwd=empty)
    assert install.returncode == 0, install.stderr

    version = run(venv / "bin/celium-ops", "--version", cwd=empty, environment=bare)
    assert (version.returncode, version.stdout.split()[0]) == (0, "celium-ops")
    programs = [*venv.glob("lib/*/site-packages/celium_ops/runner/programs/*")]
    assert sorted(program.name for program in programs if os.access(program, os.X_OK)) == ["sftp", "ssh"]

    # Nobody lives at 127.0.0.1:1, so the play ends at once; that it began is what counts.
    (empty / "fleet.yml").write_text("executors: {hosts: {gpu-1: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n")
    play = run(venv / "bin/ansible-playbook", "-i", "fleet.yml", "celium.ops.executor", cwd=empty, environment=bare)
    assert "PLAY [Executors]" in play.stdout, play.stdout + play.stderr
    assert "unreachable=1" in play.stdout
    tasks = run(
        *(venv / "bin/ansible-playbook", "-i", "fleet.yml", "--list-tasks", "celium.ops.executor"),
        cwd=empty,
        environment=bare,
    )
    assert "Docker engine, compose plugin and NVIDIA container toolkit" in tasks.stdout, tasks.stderr
