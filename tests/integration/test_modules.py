"""Our Ansible modules, run by Ansible on this machine."""

import json
import os
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.celium.ops.plugins.modules import apt_source


@pytest.fixture
def json_merge(tmp_path):
    file = tmp_path / "daemon.json"

    def run(values, *flags, **options):
        arguments = json.dumps({"path": str(file), "values": values, **options})
        command = ["ansible", "localhost", "-c", "local", "-m", "celium.ops.json_merge", "-a", arguments, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr, file

    return run


def test_keys_of_others_stay_and_a_second_run_changes_nothing(json_merge):
    _, _, file = json_merge({"log-opts": {"max-size": "50m"}})
    file.write_text('{"runtimes": {"nvidia": {"path": "/x"}}, "log-opts": {"max-file": "9", "max-size": "1m"}}')
    code, output, _ = json_merge({"log-opts": {"max-size": "50m"}})
    assert (code, "CHANGED" in output) == (0, True)
    assert json.loads(file.read_text()) == {
        "runtimes": {"nvidia": {"path": "/x"}},
        "log-opts": {"max-file": "9", "max-size": "50m"},
    }
    backups = [path for path in file.parent.iterdir() if path != file]
    assert len(backups) == 1, "the old file is kept"
    code, output, _ = json_merge({"log-opts": {"max-size": "50m"}})
    assert (code, "SUCCESS" in output) == (0, True)


def test_a_check_shows_the_difference_and_writes_nothing(json_merge):
    code, output, file = json_merge({"live-restore": True}, "--check", "--diff")
    assert (code, '+  "live-restore": true' in output, file.exists()) == (0, True, False)


def test_a_default_gives_way_to_what_is_there(json_merge):
    file = json_merge({})[2]
    file.write_text('{"runtimes": {"nvidia": {"path": "/mine"}}}')
    defaults = {"runtimes": {"nvidia": {"path": "ours"}, "other": {"path": "x"}}}
    assert json_merge({"debug": True}, defaults=defaults)[0] == 0
    assert json.loads(file.read_text()) == {
        "debug": True,
        "runtimes": {"nvidia": {"path": "/mine"}, "other": {"path": "x"}},
    }


LOGS = [
    ({"log-driver": "syslog", "log-opts": {"syslog-address": "udp://log"}}, {"max-size": "50m"}),
    ({"log-driver": "json-file", "log-opts": {"labels": "x"}}, {"labels": "x", "max-size": "50m"}),
    ({"log-opts": {"labels": "x"}}, {"labels": "x", "max-size": "50m"}),
    ({"log-driver": "syslog"}, {"max-size": "50m"}),
]


@pytest.mark.parametrize(("before", "after"), LOGS)
def test_what_belongs_to_another_value_goes_with_it(json_merge, before, after):
    file = json_merge({})[2]
    file.write_text(json.dumps({"debug": True, **before}))
    values = {"log-driver": "json-file", "log-opts": {"max-size": "50m"}}
    assert json_merge(values, follows={"log-opts": {"key": "log-driver", "unset": "json-file"}})[0] == 0
    assert json.loads(file.read_text()) == {"debug": True, "log-driver": "json-file", "log-opts": after}


def test_what_belongs_to_a_value_that_nobody_changes_stays(json_merge):
    file = json_merge({})[2]
    before = {"log-opts": {"labels": "x"}}
    file.write_text(json.dumps(before))
    assert json_merge({"debug": True}, follows={"log-opts": {"key": "log-driver", "unset": "json-file"}})[0] == 0
    assert json.loads(file.read_text()) == {**before, "debug": True}


FAULTS = [
    ("{broken", {}, "is not valid JSON"),
    ("[]", {}, "holds no JSON object"),
    ("{}", {"validate": "false %s"}, ""),
]


@pytest.mark.parametrize(("before", "options", "message"), FAULTS)
def test_what_cannot_be_merged_is_left_as_it_was(json_merge, before, options, message):
    file = json_merge({"a": 1})[2]
    file.write_text(before)
    code, output, _ = json_merge({"b": 2}, **options)
    assert (code, file.read_text()) == (2, before)
    assert message in output
    assert "left as it is" in output


class Hostile(BaseHTTPRequestHandler):
    """Serves what a mirror may: a key, one without an end, one that trickles."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3" if self.path == "/good" else str(2**40))
        self.end_headers()
        with suppress(OSError):
            if self.path == "/good":
                self.wfile.write(b"key")
            while self.path != "/good":
                self.wfile.write(b"x" if self.path == "/trickles" else bytes(65536))
                self.server.over.wait(0.2 if self.path == "/trickles" else 0)

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        server.over = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.over.set()
        server.shutdown()


class Apt:
    """As much of an Ansible module as fetches a key."""

    def run_command(self, command, environ_update):
        done = subprocess.run(command, env=os.environ | environ_update, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


def aside_in(folder):
    folder.mkdir()
    return apt_source.Aside(Apt(), folder)


def test_a_key_is_fetched_in_bounded_time_and_size(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(apt_source, "KEY_WITHIN", 3)
    for number, (name, why) in enumerate([("endless", "it has 1 MiB or more"), ("trickles", "did not end in 3 s")]):
        aside = aside_in(tmp_path / str(number))
        began = time.monotonic()
        with pytest.raises(apt_source.UnusableError, match=why):
            aside.fetch_key(f"{mirror}/{name}")
        assert time.monotonic() - began < 20
        assert sum(file.stat().st_size for file in aside.folder.rglob("*")) < 2 * apt_source.LARGEST_KEY
    assert aside_in(tmp_path / "good").fetch_key(f"{mirror}/good") == "key"
