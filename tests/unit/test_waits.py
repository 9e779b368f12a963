"""What the record of a host makes of changes that wait for the end of a rental."""

from __future__ import annotations

import json

import pytest
from ansible_collections.celium.ops.plugins.module_utils import managed, probe

OURS = {
    "com.docker.compose.project": "executor",
    "com.docker.compose.service": "db",
    "com.docker.compose.config-hash": "1",
    "org.celium-ops.environment": "0a",
}
WAIT = {"kind": "container", "name": "executor-db-1", "why": "is recreated", "until": "pod_1"}
PROJECT = [{"kind": "project", "name": "executor"}]


@pytest.fixture
def host(monkeypatch, tmp_path):
    """Let Docker have one container of ours, in a state that can be changed, and the record a place."""
    state = {"Status": "running", "Health": {"Status": "healthy"}, "Pid": 0}

    def docker(path):
        if path == probe.CONTAINERS:
            return [{"Id": "1", "Names": ["/executor-db-1"], "Labels": OURS, "State": state["Status"], "Image": "db"}]
        networks = {"Networks": {"executor_default": {}}}
        config = {"Labels": OURS, "Image": "db"}
        return {"State": state, "Config": config, "Image": "sha256:1", "NetworkSettings": networks}

    monkeypatch.setattr(probe, "docker", docker)
    monkeypatch.setattr(managed, "RECORD", tmp_path / "record.json")
    return state


def test_only_what_waits_need_not_be_well_at_the_end_of_a_play(host):
    host["Status"] = "paused"
    with pytest.raises(ValueError, match="executor-db-1 is paused"):
        managed.make(PROJECT)
    with pytest.raises(ValueError, match="executor-db-1 is paused"):
        managed.make(PROJECT, waits=[{**WAIT, "name": "executor-monitor-1"}])
    assert managed.make(PROJECT, waits=[WAIT])["waits"] == [WAIT]


def test_what_waits_is_told_until_the_next_apply_and_may_crash_meanwhile(host):
    host["Status"] = "restarting"
    managed.write(managed.make(PROJECT, "run", [WAIT]))
    host["Status"] = "running"
    assert managed.check() == {"seal": None, "drift": [], "waits": [WAIT]}
    managed.write(managed.make(PROJECT, "run"))
    host["Status"] = "paused"
    assert [one["name"] for one in managed.check()["drift"]] == ["executor-db-1"]


def test_a_record_of_an_earlier_version_has_nothing_that_waits(host):
    record = managed.make(PROJECT, "run")
    del record["waits"]
    managed.RECORD.write_text(json.dumps(record))
    assert managed.check() == {"seal": None, "drift": [], "waits": []}
