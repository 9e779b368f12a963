"""The witness of a process that reads an inventory: what it writes down, what it refuses; without Ansible."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, pathlib, socket, subprocess, sys
from celium_ops.fleet.witness import Witness
os.chdir(sys.argv[1])
witness = Witness()
witness.watch()
witness.watch_templates(type("Environment", (), {{"call": None}}), [])
{statements}
print(json.dumps(witness.report()))
"""


def report(folder, statements):
    """Return what the witness says of a process that runs some statements in a folder with a file ``a`` of ``one``."""
    (folder / "a").write_text("one")
    command = [sys.executable, "-c", PROGRAM.format(statements=statements), str(folder)]
    environment = {**os.environ, "NAME": "value"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# (what is done, the kinds and names that are written down for it)
SEEN = [
    ("open('a').read()", {("file", "a")}),
    ("pathlib.Path('a').read_bytes()", {("file", "a")}),
    ("os.path.exists('b')", {("stat", "b")}),
    ("os.path.isdir(b'b')", {("stat", "b")}),
    ("pathlib.Path('b').is_file()", {("stat", "b")}),
    ("os.path.islink('a')", {("lstat", "a")}),
    ("os.access('a', os.X_OK)", {("access", "1:a")}),
    ("os.listdir('.')", {("folder", ".")}),
    ("list(os.scandir())", {("folder", ".")}),
    ("list(pathlib.Path('.').iterdir())", {("folder", ".")}),
    ("os.environ.get('NAME')", {("variable", "NAME")}),
    ("os.getenv('NONE')", {("variable", "NONE")}),
    ("'NONE' in os.environ", {("variable", "NONE")}),
    ("os.path.expandvars('$NAME')", {("variable", "NAME")}),
    ("os.path.expanduser('~root')", {("getpwnam", "root")}),
    ("open('b', 'w').write('')", set()),
]


@pytest.mark.parametrize(("statements", "expected"), SEEN, ids=[case[0] for case in SEEN])
def test_what_is_looked_at_is_written_down(tmp_path, statements, expected):
    found = report(tmp_path, statements)
    assert found["cacheable"], found["reason"]
    assert {(kind, name) for kind, name, _ in found["seen"]} >= expected
    own = {(kind, name) for kind, name, _ in found["seen"] if name in ("a", "b")}
    assert own == {(kind, name) for kind, name in expected if name in ("a", "b")}


REFUSED = [
    ("open('a').read(); open('a', 'w').write('two')", "it changed while it was read: a"),
    ("open('a').read(); open('a', 'w').write('two'); open('a', 'w').write('one')", "it changed while it was read: a"),
    ("os.path.exists('b'); open('b', 'w').close()", "it changed while it was read: b"),
    ("os.listdir('.'); open('b', 'w').close()", "it changed while it was read: ."),
    ("subprocess.run(['true'])", "it goes beyond files: subprocess.Popen"),
    ("os.system('true')", "it goes beyond files: os.system"),
    ("socket.gethostname()", "it goes beyond files: socket.gethostname"),
    ("dict(os.environ)", "all of the environment is read"),
    ("os.mkfifo('b'); os.open('b', os.O_RDWR)", "it is no regular file: b"),
    ("open('/dev/urandom', 'rb').read(1)", "it is no regular file: /dev/urandom"),
    ("os.listdir(os.open('.', os.O_RDONLY))", "a folder is read that has no name"),
    ("os.stat('a', dir_fd=os.open('.', os.O_RDONLY))", "a folder is read that has no name"),
    ("open('c.py', 'w').close(); import sys; sys.path.insert(0, '.'); import c", "it is code that nobody knows"),
]


@pytest.mark.parametrize(("statements", "reason"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_compared_later_is_refused(tmp_path, statements, reason):
    found = report(tmp_path, statements)
    assert (found["cacheable"], found["seen"]) == (False, [])
    assert reason in found["reason"]
