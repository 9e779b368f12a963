"""Drivers: which an inventory may want, what a host shows of its own, what of an old one goes along to a new one."""

import os
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.celium.ops.plugins.module_utils import managed

from celium_ops.base.errors import UsageError
from celium_ops.fleet.contract import computed_variables
from celium_ops.fleet.inventory import stop_at_errors
from celium_ops.fleet.model import Connection, Fleet, Host
from celium_ops.verdict import ruleset
from celium_ops.workflows.drivers import driver_findings
from celium_ops.workflows.plan import drifted

KEY = "nvidia_docker_driver_version"
VALUES = {"celium_ruleset": "2026-09", "nvidia_docker_toolkit": True, "nvidia_docker_driver_version": "580.95.05"}
ORIGINS = {"nvidia_docker_driver_version": ("fleet.yml", 7)}


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def fleet(**values):
    return Fleet(
        Path("fleet.yml"), {"gpu-1": Host("gpu-1", "executor", Connection("192.0.2.9"), VALUES | values, ORIGINS)}
    )


def wants(version, rules="2026-09", **values):
    return fleet(nvidia_docker_driver_version=version, celium_ruleset=rules, **values)


FINDINGS = [
    ({"version": "580.95.05"}, None, ""),
    ({"version": "580.95.05", "rules": "2025-12"}, None, ""),
    ({"version": "580.95.05", "rules": "2025-08"}, "error", "one of 36 drivers"),
    ({"version": "580.1", "rules": "2025-12"}, "error", "one of 580.82.07, 580.82.09, 580.95.05"),
    ({"version": "580.105.08"}, "warning", "580.95.05"),
    ({"version": "570.86.15"}, "error", "580.65.06 or newer"),
    ({"version": "570.86.15", "nvidia_docker_driver_unlisted": True}, None, ""),
    ({"version": "570.86.15", "nvidia_docker_toolkit": False}, None, ""),
    ({"version": None}, None, ""),
]


@pytest.mark.parametrize(("case", "severity", "expected"), FINDINGS)
def test_a_driver_that_validators_refuse_is_an_error_of_the_inventory(case, severity, expected):
    found = driver_findings(wants(**case))
    assert [one.severity for one in found] == ([severity] if severity else [])
    for one in found:
        assert (one.host, one.file, one.line, one.key) == ("gpu-1", "fleet.yml", 7, "nvidia_docker_driver_version")
        assert one.found == case["version"]
        assert expected in one.expected
        assert case["version"] in one.message
    if severity == "error":
        with pytest.raises(UsageError, match="nvidia_docker_driver_unlisted"):
            stop_at_errors(found)
    else:
        stop_at_errors(found)


def test_the_operators_own_rules_go_before_ours(tmp_path):
    ours = ruleset.supplied("2025-12")
    table = replace_entries(ours.tables["drivers"], {"999.1": None})
    newer = ours.model_copy(update={"tables": {**ours.tables, "drivers": table}})
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(newer.model_dump(mode="json", by_alias=True)))
    ruleset.install(tmp_path / "rules.yml")
    assert driver_findings(wants("999.1", "2025-12")) == []
    assert [one.severity for one in driver_findings(wants("580.95.05", "2025-12"))] == ["error"]
    assert "999.1" not in ruleset.supplied("2025-12").tables["drivers"].entries


def test_a_version_that_yaml_takes_for_a_number_is_an_error():
    host = fleet().hosts["gpu-1"]
    number = Host(host.name, host.role, host.connection, VALUES | {KEY: "550.12"}, ORIGINS, {KEY: 550.12})
    (found,) = driver_findings(Fleet(Path("fleet.yml"), {"gpu-1": number}))
    assert (found.severity, found.expected, found.line) == ("error", '"550.120"', 7)


def replace_entries(table, entries):
    return table.model_copy(update={"entries": entries})


# What a host shows


@pytest.fixture
def host(tmp_path):
    """Return what lays out a host's driver and gives the entry that a record has of it."""
    entry = {"kind": "driver", "name": "NVIDIA driver", "said": str(tmp_path / "said")}
    entry |= {"library": str(tmp_path / "libnvidia-ml.so.1"), "module": str(tmp_path / "module")}

    def lay(library, module, said=""):
        for file in tmp_path.glob("*"):
            if file.is_symlink() or file.is_file():
                file.unlink()
        if library:
            (tmp_path / f"libnvidia-ml.so.{library}").touch()
            (tmp_path / "libnvidia-ml.so.1").symlink_to(f"libnvidia-ml.so.{library}")
        if module:
            (tmp_path / "module").write_text(f"{module}\n")
        if said:
            (tmp_path / "said").write_text(f"NVRM version: {said}\nGCC version:  gcc version 13.3.0 (Ubuntu)\n")
        return entry

    return lay


OPEN = "NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs@host)  Tue Sep 23 10:11:16 UTC 2025"
OLDER = "NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024"
SHOWN = [
    (("580.95.05", "580.95.05"), ("580.95.05", "580.95.05")),
    (("580.95.05", "580.82.09", OPEN), ("580.95.05", "580.82.09")),
    (("580.95.05", "", OPEN), ("580.95.05", "580.95.05")),
    (("535.183.01", "", OLDER), ("535.183.01", "535.183.01")),
    (("580.95.05", ""), ("580.95.05", "")),
    (("", ""), ("", "")),
]


@pytest.mark.parametrize(("laid", "shown"), SHOWN)
def test_the_role_and_the_record_see_the_same_driver(host, laid, shown):
    entry = host(*laid)
    seen = managed.Eyes("salt").see(entry)
    assert (seen["version"] or "", seen["module"] or "") == shown
    known = {"library": entry["library"], "module": entry["module"], "module_said": entry["said"], "driver": ""}
    probe = rendered("_nvidia_docker_driver_probe", **{f"_nvidia_docker_{name}": known[name] for name in known})
    done = subprocess.run(["sh", "-c", probe], capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    assert (found["driver"], found["module"]) == shown
    assert len(found["boot"]) == len("e2b7b3a4-6f0a-4b61-9d0a-0a2f3d1f5c11")


def test_a_plan_names_another_driver_and_a_reboot_that_waits(host):
    record = {
        "salt": "s",
        "things": [{**(entry := host("580.95.05", "580.95.05")), "state": managed.Eyes("s").see(entry)}],
    }
    assert managed.drift(record) == []
    host("580.105.08", "580.95.05")
    (found,) = managed.drift(record)
    shown = drifted(found)
    assert (shown.kind, shown.name, shown.why) == ("package", "NVIDIA driver", "version is 580.105.08, was 580.95.05")
    host("580.95.05", "")
    assert drifted(managed.drift(record)[0]).why == "module is nothing, was 580.95.05"


def test_nothing_is_recorded_while_a_reboot_waits(host):
    wanted = {"version": "580.95.05", "module": "580.95.05"}
    managed.make([{**host("580.95.05", "580.95.05"), "wants": wanted}])
    with pytest.raises(ValueError, match="NVIDIA driver"):
        managed.make([{**host("580.95.05", "580.82.09"), "wants": wanted}])


# What goes along


def rendered(name, **values):
    known = computed_variables("nvidia_docker") | values
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 -- no HTML
    environment.filters["quote"] = lambda text: f"'{text}'"
    text = known[name]
    while "{{" in text:
        text = environment.from_string(text).render(known)
    return text


APT = """#!/bin/sh
case $1 in
madison) grep "^ *$2 |" "$APT_KNOWS" ;;
esac
"""
DPKG = """#!/bin/sh
cat "$DPKG_HAS"
"""
ALONG = [
    (
        ("580.82.09", "580.95.05"),
        [
            "nvidia-fabricmanager-580 580.82.09-0ubuntu1",
            "nvidia-container-toolkit 1.18.1-1",
            "nvidia-x-580 580.82.09-1",
        ],
        [
            "nvidia-fabricmanager-580 580.95.05-0ubuntu1",
            "nvidia-container-toolkit 1.18.1-1",
            "nvidia-x-580 580.82.09-1",
        ],
        ["nvidia-fabricmanager-580"],
    ),
    (
        ("570.86.15", "580.95.05"),
        ["nvidia-fabricmanager-570 570.86.15-1", "nvidia-dkms-570-open 570.86.15-0ubuntu1", "libnvsdm 570.86.15-1"],
        ["nvidia-fabricmanager-580 580.95.05-1", "nvidia-dkms-580-open 580.95.05-0ubuntu1", "libnvsdm 580.95.05-1"],
        ["nvidia-fabricmanager-580", "nvidia-dkms-580-open", "libnvsdm"],
    ),
    (
        ("580.95.05", "590.44.01"),
        ["nvidia-fabricmanager-580 580.95.05-1", "nvidia-dkms-580-open 580.95.05-0ubuntu1"],
        ["nvidia-fabricmanager 590.44.01-1", "nvidia-dkms-open 590.44.01-1ubuntu1"],
        ["nvidia-fabricmanager", "nvidia-dkms-open"],
    ),
    (
        ("590.44.01", "580.95.05"),
        ["nvidia-fabricmanager 590.44.01-1"],
        ["nvidia-fabricmanager-580 580.95.05-1", "nvidia-fabricmanager 590.44.01-1"],
        ["nvidia-fabricmanager-580"],
    ),
]


@pytest.mark.parametrize(("versions", "here", "there", "along"), ALONG)
def test_what_else_is_of_the_old_driver_goes_along(tmp_path, monkeypatch, versions, here, there, along):
    for name, text in (("apt-cache", APT), ("dpkg-query", DPKG)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "here").write_text("".join(f"installed {line}\n" for line in here))
    (tmp_path / "there").write_text("".join(f" {' | '.join(line.split())} | repository\n" for line in there))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("APT_KNOWS", str(tmp_path / "there"))
    monkeypatch.setenv("DPKG_HAS", str(tmp_path / "here"))
    command = ["sh", "-c", rendered("_nvidia_docker_driver_along"), *versions]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [f"{name}={versions[1]}-*" for name in along], done.stderr
