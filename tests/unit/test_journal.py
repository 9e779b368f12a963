"""The journal and the lock, with real files and real processes."""

import os
import signal
import subprocess
import sys

import pytest

from celium_ops.base.errors import CeliumError, GuardError
from celium_ops.journal.fleet_state import fleet_dir, id_file
from celium_ops.journal.lock import locked
from celium_ops.journal.runs import HostEntry, Journal

HOLDER = """
import sys, time
from pathlib import Path
from celium_ops.journal.lock import locked
from celium_ops.journal.runs import Journal
with locked(Path(sys.argv[1]), "a deploy"):
    print(Journal(Path(sys.argv[1])).begin("deploy", {}), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    process.run = process.stdout.readline().strip()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_change_is_told_who_holds_the_lock(tmp_path, holder):
    with (
        pytest.raises(GuardError, match=rf"a deploy of .* \(process {holder.pid}\) since 20") as caught,
        locked(tmp_path, "x"),
    ):
        pytest.fail("both hold the lock")
    assert caught.value.exit_code == 4
    assert Journal(tmp_path).list(5)[0].state == "running"


def test_a_killed_holder_leaves_no_lock_and_a_run_that_is_seen_to_have_died(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path, "the next"):
        pass
    assert [(run.id, run.state) for run in Journal(tmp_path).list(5)] == [(holder.run, "died")]


def test_a_run_is_kept_with_its_hosts_newest_first(tmp_path):
    journal = Journal(tmp_path)
    first = journal.begin("deploy", {"limit": "gpu-1"})
    hosts = [HostEntry("gpu-1", "ok", 3, 1.5, None), HostEntry("gpu-2", "failed", 0, 2.0, "disk full")]
    journal.finish(first, "failed", hosts)
    second = journal.begin("deploy", {})
    assert [run.id for run in journal.list(5)] == [second, first]
    assert [run.id for run in journal.list(1)] == [second]
    kept = journal.show(first)
    assert (kept.state, kept.inputs, kept.hosts) == ("failed", {"limit": "gpu-1"}, hosts)
    assert kept.ended > kept.began
    assert journal.show("nothing") is None


def test_half_a_result_is_not_kept(tmp_path):
    journal = Journal(tmp_path)
    run = journal.begin("deploy", {})
    twice = [HostEntry("gpu-1", "ok", 0, 0, None)] * 2
    with pytest.raises(CeliumError, match="journal cannot be used"):
        journal.finish(run, "ok", twice)
    assert (journal.show(run).state, journal.show(run).hosts) == ("running", [])


def test_a_broken_journal_is_an_error_for_the_operator(tmp_path):
    journal = Journal(tmp_path)
    journal.path.write_bytes(b"not a database" * 100)
    with pytest.raises(CeliumError, match="journal cannot be used") as caught:
        journal.list(5)
    assert caught.value.file == str(journal.path)


def test_the_state_follows_the_inventory_and_not_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "fleet.yml").touch()
    found = fleet_dir(before / "fleet.yml")
    assert found.stat().st_mode & 0o777 == 0o700
    assert len({found, fleet_dir(before), fleet_dir(before / "other.yml")}) == 3, "each inventory is a fleet of its own"
    assert fleet_dir(before) == fleet_dir(before), "a directory as inventory"
    before.rename(after)
    assert fleet_dir(after / "fleet.yml") == found
    id_file(after / "fleet.yml").write_text("../../etc\n")
    with pytest.raises(CeliumError, match="holds no fleet id"):
        fleet_dir(after / "fleet.yml")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", os.devnull)
    (tmp_path / "fleet.yml").touch()
    with pytest.raises(CeliumError, match="cannot keep the state"):
        fleet_dir(tmp_path / "fleet.yml")


def test_what_a_run_was_about_is_kept_with_it(tmp_path):
    journal = Journal(tmp_path)
    runs = [journal.begin(command, {}) for command in ("assign apply", "deploy", "assign apply", "assign apply")]
    for run in runs[:3]:
        journal.detail(run, {"block": 1})
        journal.detail(run, {"block": 2, "of": run})
    kept = list(journal.details("assign apply", 10))
    assert [(run.id, content) for run, content in kept] == [
        (run, {"block": 2, "of": run}) for run in (runs[2], runs[0])
    ]
    assert [run.id for run, _ in journal.details("assign apply", 1)] == [runs[2]]
