"""The scripts that roles run on hosts, against a systemctl that plays a host; in the lab they meet real ones."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys

import jinja2
import pytest
import yaml
from ansible_collections.celium.ops.plugins.module_utils import probe

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import computed_variables

SYSTEMCTL = """#!{python}
import json, os, pathlib, sys
file = pathlib.Path({file!r})
units = json.loads(file.read_text())
verb, *names = [word for word in sys.argv[1:] if not word.startswith("--")]
wanted = [word[8:] for word in sys.argv if word.startswith("--state=")]
def save():
    file.write_text(json.dumps(units))
if verb in ("list-units", "list-unit-files"):
    column = ("active", "enabled")[verb == "list-unit-files"]
    for name in sorted(set(names) & set(units)):
        if units[name][column] in wanted:
            print(name, units[name][column], "x")
elif verb in ("is-active", "is-enabled"):
    state = units.get(names[0], dict(active="inactive", enabled="not-found"))[verb[3:]]
    if "--quiet" not in sys.argv:
        print(state)
    sys.exit(state not in ("active", "enabled"))
elif verb == "start":
    unit = units[names[0]]
    if unit.get("broken"):
        sys.exit("Job for " + names[0] + " failed.")
    if not unit.get("left_out"):
        unit["active"] = "active"
    save()
elif verb == "enable":
    if units[names[0]]["enabled"] == "masked":
        sys.exit("Unit file is masked.")
    assert os.environ["SYSTEMD_OFFLINE"] == "1", "it would reload systemd"
    units[names[0]]["enabled"] = "enabled"
    save()
"""
KEPT = {"active": "active", "enabled": "enabled"}
STOPPED = {"active": "inactive", "enabled": "enabled"}
OFF = {"active": "inactive", "enabled": "disabled"}


def script(role: str, name: str, **values: str) -> str:
    """Return a script as Ansible would hand it over."""
    known = computed_variables(role) | values
    text = known[name]
    while "{{" in text:
        text = jinja2.Environment(autoescape=False).from_string(text).render(known)  # noqa: S701 -- no HTML
    return text


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Return what runs a script on a host with some units: its exit status, what it said, and the units afterwards."""
    file, program = tmp_path / "units.json", tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.format(python=sys.executable, file=str(file)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def runs(text, word, units):
        file.write_text(json.dumps(units))
        done = subprocess.run(["sh", "-c", text, word], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr, json.loads(file.read_text())

    return runs


CLOCKS = [
    ({"chrony.service": KEPT}, 0, "keeper: 'chrony.service'", None),
    ({"ntpsec.service": KEPT, "chrony.service": OFF}, 0, "keeper: 'ntpsec.service'", None),
    ({"chrony.service": STOPPED}, 0, "changed: started chrony.service\nkeeper: 'chrony.service'", "chrony.service"),
    (
        {"chrony.service": KEPT | {"enabled": "disabled"}},
        0,
        "changed: enabled chrony.service\nkeeper: 'chrony.service'",
        "chrony.service",
    ),
    ({"chrony.service": OFF}, 0, "keeper: ''", None),
    ({}, 0, "keeper: ''", None),
    # As timesyncd in a container: systemd says that it was started.
    ({"systemd-timesyncd.service": STOPPED | {"left_out": True}}, 0, "keeper: ''", None),
    (
        {"ntpsec.service": STOPPED, "systemd-timesyncd.service": STOPPED | {"left_out": True}},
        0,
        "changed: started ntpsec.service\nkeeper: 'ntpsec.service'",
        "ntpsec.service",
    ),
    ({"chrony.service": STOPPED | {"broken": True}}, 1, "Job for chrony.service failed.", None),
    ({"chrony.service": KEPT | {"enabled": "masked"}}, 0, "keeper: 'chrony.service'", None),
]


@pytest.mark.parametrize(("units", "code", "said", "cured"), CLOCKS)
def test_whoever_keeps_the_clock_goes_on(host, units, code, said, cured):
    clock = script("common", "_common_clock")
    found = host(clock, "keep", units)
    assert (found[0], said in found[1]) == (code, True), found
    assert found[2] == units | ({cured: units[cured] | KEPT} if cured else {})
    if code == 0:
        again = host(clock, "keep", found[2])
        assert "changed" not in again[1]
        assert again[2] == found[2]


@pytest.mark.parametrize("units", [row[0] for row in CLOCKS])
def test_a_check_says_what_is_to_be_done_and_does_nothing(host, units):
    code, said, after = host(script("common", "_common_clock"), "look", units)
    assert (code, after) == (0, units)
    well = any(one == KEPT or one["enabled"] == "masked" for one in units.values()) or all(
        one == OFF for one in units.values()
    )
    assert ("changed" in said) == (not well)


def test_a_new_keeper_that_systemd_leaves_out_is_an_error_that_says_what_to_do(host):
    start = script("common", "_common_clock_start")
    assert host(start, "", {"chrony.service": OFF})[::2] == (0, {"chrony.service": KEPT})
    code, said, _ = host(start, "", {"chrony.service": OFF | {"left_out": True}})
    assert (code, "celium_clock: false" in said) == (1, True)


RUNTIME_FILES = [
    ("[nvidia-container-cli]\nno-cgroups = false\n", False),
    ("[nvidia-container-cli]\n#no-cgroups = true\n", False),
    ("#[x]\n[nvidia-container-cli]\nno-cgroups = true\n", True),
    ("[nvidia-container-cli]\n  no-cgroups=true # theirs\nuser = 'x'\n", True),
    ("nvidia-container-cli.no-cgroups = true\n", True),
    ("nvidia-container-cli = {user = 'x', no-cgroups = true}\n", True),
    ('[nvidia-container-cli]\n"no-cgroups" = true\n', True),
    ("", False),
]


@pytest.mark.parametrize(("text", "wrong"), RUNTIME_FILES)
def test_cards_that_no_cgroups_takes_are_seen_by_preflight_and_deploy_and_given_back(
    tmp_path, monkeypatch, text, wrong
):
    file = tmp_path / "config.toml"
    file.write_text(text)
    monkeypatch.setitem(sys.modules, "probe", probe)  # it comes along to a host
    survey = importlib.import_module("celium_ops.remote.on_host.survey")
    monkeypatch.setattr(survey, "_RUNTIME", file)
    assert survey._runtime() == {"kind": "file", "no_cgroups": wrong}
    known = {"_nvidia_docker_runtime": str(file), "_nvidia_docker_loose": "true"}
    look = script("nvidia_docker", "_nvidia_docker_probe", **known)
    done = subprocess.run(["sh", "-c", look], capture_output=True, text=True, check=False)
    assert bool(yaml.safe_load(done.stdout)["cgroups"]) == wrong
    (task,) = [
        task["ansible.builtin.replace"]
        for task in yaml.safe_load((collection_dir() / "roles/nvidia_docker/tasks/configure.yml").read_text())
        if "ansible.builtin.replace" in task
    ]
    cured = re.sub(task["regexp"], task["replace"], text, flags=re.MULTILINE)  # as the module does
    assert cured == (re.sub(r"= ?true", lambda found: found[0].replace("true", "false"), text) if wrong else text)


PERSISTENCE = [
    ({}, "", False),
    ({"nvidia-persistenced.service": KEPT}, "enabled active", False),
    ({"nvidia-persistenced.service": KEPT | {"enabled": "static"}}, "", False),
    ({"nvidia-persistenced.service": STOPPED | {"enabled": "static"}}, "", False),
    ({"nvidia-persistenced.service": STOPPED}, "enabled inactive", True),
    ({"nvidia-persistenced.service": OFF}, "disabled inactive", True),
    ({"nvidia-persistenced.service": OFF | {"enabled": "masked"}}, "", False),
]


@pytest.mark.parametrize(("units", "said", "wrong"), PERSISTENCE)
def test_persistence_where_a_driver_brings_it(host, tmp_path, units, said, wrong):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    found = host(script("nvidia_docker", "_nvidia_docker_probe", _nvidia_docker_loose="true"), "", units)
    seen = yaml.safe_load(found[1])["persistence"]
    assert seen == said
    (task,) = [
        task
        for task in yaml.safe_load((collection_dir() / "roles/nvidia_docker/tasks/start.yml").read_text())
        if "persistence" in str(task.get("when"))
    ]
    assert bool(re.search(re.search(r"search\('(.*)'\)", task["when"])[1], seen)) == wrong
    if wrong:
        persist = script("nvidia_docker", "_nvidia_docker_persist")
        assert host(persist, "look", units)[2] == units
        assert host(persist, "start", units)[2] == {"nvidia-persistenced.service": KEPT}
