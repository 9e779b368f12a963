"""The validators' own commands, run as the program for hosts runs them, with a Docker that a test plays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from celium_ops.fleet.contract import validators_image
from celium_ops.fleet.model import Connection, Host
from celium_ops.remote import trial as trials
from celium_ops.remote.program import asking, program
from celium_ops.remote.ssh import Answer
from celium_ops.remote.trial import Run, Trial, commands, trial

HOST = Host("gpu-1", "executor", Connection("192.0.2.1"), {"celium_ruleset": "2025-12"})
PROBE = "def rentals():\n    return {rentals!r}\n"


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Let a script be Docker for programs that are fed to Python, and answer as SSH would; it notes its arguments."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    asked = tmp_path / "asked"

    def plays(script, rentals=()):
        file = tmp_path / "docker"
        file.write_text(f'#!/bin/sh\necho "$*" >> {asked}\n{script}\n')
        file.chmod(0o755)
        monkeypatch.setattr(trials, "shared", lambda _: PROBE.format(rentals=list(rentals)))

        def ask(_connections, to_run, text, _deadline):
            (name, (_, *options)) = next(iter(to_run.items()))
            done = subprocess.run([sys.executable, *options], input=text, capture_output=True, text=True, check=False)
            return {name: Answer(done.stdout, done.stderr or None, time.time())}

        monkeypatch.setattr(trials, "ask", ask)
        return asked

    return plays


def test_upstreams_own_commands_are_run_with_the_image_that_is_there(docker):
    asked = docker("echo NVIDIA-SMI")
    assert trial(HOST) == Trial({"sysbox": Run(None), "storage": Run(None)})
    first, second = asked.read_text().splitlines()
    start = "run --rm --pull=never --name=celium-ops-preflight-"
    assert first.startswith(start)
    assert first.endswith(f"--runtime=sysbox-runc --gpus all {validators_image()} nvidia-smi")
    assert second.endswith(f"--runtime=sysbox-runc --gpus all --storage-opt size=1g {validators_image()} nvidia-smi")
    older = replace(HOST, values={"celium_ruleset": "2025-08"})
    assert list(commands(older, "x")) == ["sysbox"], "validators of 2025-08 limit no disk"


FAILED = [
    ("echo 'docker: Error response from daemon: unknown or invalid runtime name: sysbox-runc.' >&2; echo >&2;"
     "echo \"Run 'docker run --help' for more information\" >&2; exit 125",
     "docker: Error response from daemon: unknown or invalid runtime name: sysbox-runc. (exit 125)"),
    ("exit 1", "it said nothing (exit 1)"),
    ("printf '\\033[2J\\033[31mnvidia-smi has failed\\033[0m'; exit 9", "[2J[31mnvidia-smi has failed[0m (exit 9)"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "said"), FAILED)
def test_why_a_command_fails_is_one_line_that_can_be_shown(docker, script, said):
    docker(script)
    assert trial(HOST).runs["sysbox"] == Run(said)


def test_what_never_ends_says_too_much_or_closes_its_output_is_ended(docker, monkeypatch):
    monkeypatch.setattr(trials, "SECONDS", 1)
    for script in ("exec sleep 60", "exec yes", "exec sleep 60 > /dev/null 2>&1"):
        asked = docker(f"case $1 in run) {script};; esac")
        begun = time.monotonic()
        found = trial(HOST)
        assert {run.error for run in found.runs.values()} == {"it did not end in 1 s"}
        assert time.monotonic() - begun < 20
        assert "rm -f celium-ops-preflight-" in asked.read_text(), "the container goes on without its client"


def test_nothing_is_run_on_a_host_that_is_rented_by_now(docker):
    asked = docker("exit 0", rentals=["pod_1"])
    assert trial(HOST) == Trial(skipped="it is rented out (pod_1)")
    assert not asked.exists()


@pytest.mark.parametrize("output", ["", "[]", "{}", '{"skipped": null, "runs": {"sysbox": 1}}', "null"])
def test_an_answer_that_is_none_is_an_error(monkeypatch, output):
    monkeypatch.setattr(trials, "ask", lambda *_: {"gpu-1": Answer(output, None, 0.0)})
    assert trial(HOST) == Trial(error="it does not say what came of them")
    monkeypatch.setattr(trials, "ask", lambda *_: {"gpu-1": Answer(None, "no route to host", 0.0)})
    assert trial(HOST) == Trial(error="no route to host")


def test_the_program_is_whole():
    text = asking(
        program("trial", {"probe": PROBE.format(rentals=[])}), {"commands": {}, "seconds": 1, "container": "x"}
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-"], input=text, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"skipped": None, "runs": {}}
