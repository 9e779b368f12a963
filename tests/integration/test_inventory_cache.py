"""An unchanged inventory is not resolved again, and each thing that its values come from changes them at once."""

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from celium_ops.base.errors import UsageError
from celium_ops.fleet.cache import KEPT, keep
from celium_ops.fleet.contract import load_contracts
from celium_ops.fleet.resolve import HELPER, resolve

FLEET = """\
all:
  vars:
    celium_network: "{{ network | default(celium_netuid) }}"
    network: fleet
  children:
    executors:
      hosts:
        gpu-1:
"""

_starts: list[str] = []


def _count(event, arguments):
    if event == "subprocess.Popen" and str(HELPER) in arguments[1]:
        _starts.append(event)


sys.addaudithook(_count)


class Project:
    """An inventory in a folder of its own, read from another folder, by somebody with a home of their own."""

    def __init__(self, folder):
        self.folder, self.inventory = folder, folder / "fleet.yml"
        self.cwd, self.home, self.cache = folder.parent / "cwd", folder.parent / "home", folder.parent / "cache"

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def load(self):
        """Return the value, and how many processes it took."""
        before = len(_starts)
        variables = resolve(self.inventory)["gpu-1"].variables
        return variables["celium_network"].value, len(_starts) - before

    @property
    def entry(self):
        (entry,) = self.cache.rglob("*.json")
        return entry


@pytest.fixture
def project(tmp_path, monkeypatch):
    made = Project(tmp_path / "fleet")
    for folder in (made.folder, made.cwd, made.home):
        folder.mkdir()
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(made.cwd)
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(made.cache))
    made.write("fleet.yml", FLEET)
    return made


OWN_FILTER = "../home/.ansible/plugins/filter/own.py"
CONFIG = "[defaults]\nyaml_valid_extensions = .yml, .conf\n"


def edit(name, content):
    return lambda project, _: project.write(name, content)


def unchanged_size_and_time(project, monkeypatch):
    before = project.inventory.stat()
    project.write("fleet.yml", FLEET.replace("network: fleet", "network: other"))
    os.utime(project.inventory, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = project.inventory.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def another_default(project, monkeypatch):
    variables = load_contracts()["common"].variables
    other = replace(variables["celium_netuid"], default=52)
    monkeypatch.setitem(variables, "celium_netuid", other)


def another_target(project, monkeypatch):
    (project.folder / "group_vars").unlink()
    (project.folder / "group_vars").symlink_to("two")


def link(target):
    return lambda project: (project.folder / "group_vars").symlink_to(target)


NO_NETWORK = FLEET.replace("    network: fleet\n", "")

# (what it is, the files before, what changes, the value before, the value after)
CHANGES = [
    ("the inventory", {}, edit("fleet.yml", FLEET.replace("network: fleet", "network: new")), "fleet", "new"),
    ("the same size and time", {}, unchanged_size_and_time, "fleet", "other"),
    ("a group", {"group_vars/all.yml": "network: old"}, edit("group_vars/all.yml", "network: new"), "old", "new"),
    ("a host", {"host_vars/gpu-1.yml": "network: old"}, edit("host_vars/gpu-1.yml", "network: new"), "old", "new"),
    ("the first group file", {}, edit("group_vars/executors.yml", "network: new"), "fleet", "new"),
    (
        "one more group file",
        {"group_vars/all.yml": "network: old"},
        edit("group_vars/executors", "network: new"),
        "old",
        "new",
    ),
    (
        "one more file in a group's folder",
        {"group_vars/all/a.yml": "network: old", "group_vars/all/b.yml": "other: 1"},
        edit("group_vars/all/c.yml", "network: new"),
        "old",
        "new",
    ),
    ("the first host file", {}, edit("host_vars/gpu-1.yaml", "network: new"), "fleet", "new"),
    (
        "a file less",
        {"group_vars/all.yml": "network: old"},
        lambda project, _: (project.folder / "group_vars/all.yml").unlink(),
        "old",
        "fleet",
    ),
    (
        "a link to another folder",
        {"one/all.yml": "network: old", "two/all.yml": "network: new", "group_vars": link("one")},
        another_target,
        "old",
        "new",
    ),
    (
        "where we are",
        {"../cwd/group_vars/all.yml": "network: old"},
        edit("../cwd/group_vars/all.yml", "network: new"),
        "old",
        "new",
    ),
    ("the first file where we are", {}, edit("../cwd/host_vars/gpu-1.yml", "network: new"), "fleet", "new"),
    (
        "another place to be",
        {"../other/group_vars/all.yml": "network: new"},
        lambda project, monkeypatch: monkeypatch.chdir(project.folder.parent / "other"),
        "fleet",
        "new",
    ),
    ("ansible.cfg", {"group_vars/all.conf": "network: new"}, edit("../cwd/ansible.cfg", CONFIG), "fleet", "new"),
    (
        "the home's config",
        {"group_vars/all.conf": "network: new"},
        edit("../home/.ansible.cfg", CONFIG),
        "fleet",
        "new",
    ),
    (
        "another home",
        {"group_vars/all.conf": "network: new", "../else/.ansible.cfg": CONFIG},
        lambda project, monkeypatch: monkeypatch.setenv("HOME", str(project.folder.parent / "else")),
        "fleet",
        "new",
    ),
    (
        "another config",
        {"group_vars/all.conf": "network: new", "my.cfg": CONFIG},
        lambda project, monkeypatch: monkeypatch.setenv("ANSIBLE_CONFIG", str(project.folder / "my.cfg")),
        "fleet",
        "new",
    ),
    (
        "a variable of the environment",
        {"group_vars/all.conf": "network: new"},
        lambda _, monkeypatch: monkeypatch.setenv("ANSIBLE_YAML_FILENAME_EXT", ".yml,.conf"),
        "fleet",
        "new",
    ),
    ("a default of a role", {"fleet.yml": NO_NETWORK}, another_default, 51, 52),
    (
        "a host that stands nowhere",
        {
            "fleet.yml": FLEET.replace("network: fleet", "network: \"{{ hostvars['localhost'].there }}\""),
            "host_vars/localhost.yml": "there: old",
        },
        edit("host_vars/localhost.yml", "there: new"),
        "old",
        "new",
    ),
    (
        "a plugin of the operator's",
        {},
        edit(OWN_FILTER, "class FilterModule:\n    filters = lambda self: {'default': lambda *_: 'new'}"),
        "fleet",
        "new",
    ),
]


@pytest.mark.parametrize(("_what", "files", "change", "before", "after"), CHANGES, ids=[case[0] for case in CHANGES])
def test_a_change_of_anything_that_was_read_is_seen(project, monkeypatch, _what, files, change, before, after):
    for name, content in files.items():
        content(project) if callable(content) else project.write(name, content)
    assert project.load() == (before, 1)
    assert project.load() == (before, 0), "nothing has changed"
    change(project, monkeypatch)
    assert project.load() == (after, 1)


def test_one_more_file_in_an_inventory_that_is_a_folder_is_seen(project):
    project.inventory = project.folder
    assert [project.load(), project.load()] == [("fleet", 1), ("fleet", 0)]
    project.write("more.yml", "all: {vars: {network: new}}")
    assert [project.load(), project.load()] == [("new", 1), ("new", 0)]


def test_a_link_on_the_way_to_the_inventory_that_leads_elsewhere_is_seen(project):
    here = project.folder / "here"
    for name, content in {"one": "network: old", "two": "network: new"}.items():
        project.write(f"{name}/fleet.yml", FLEET)
        project.write(f"{name}/group_vars/executors.yml", content)
    here.symlink_to("one")
    project.inventory = here / "fleet.yml"
    assert [project.load(), project.load()] == [("old", 1), ("old", 0)]
    here.unlink()
    here.symlink_to("two")
    assert project.load() == ("new", 1)


def test_a_hit_is_what_a_load_gave_and_an_inventory_in_ini_is_one_too(project):
    project.inventory = project.write("fleet.ini", '[executors]\ngpu-1 executor_price=1 celium_network="{{ 1 + 1 }}"\n')
    first = resolve(project.inventory)
    before = len(_starts)
    assert resolve(project.inventory) == first
    assert (first["gpu-1"].variables["celium_network"].value, len(_starts)) == (2, before)


SCRIPT = """\
#!/bin/sh
echo '{"executors": {"hosts": ["gpu-1"], "vars": {"celium_network": "fleet"}}}'
"""
CONSTRUCTED = "plugin: constructed\nstrict: true\ncompose: {celium_network: \"'composed'\"}\n"
VARS_PLUGIN = """\
from ansible.plugins.vars import BaseVarsPlugin
class VarsModule(BaseVarsPlugin):
    def get_vars(self, loader, path, entities):
        return {}
"""


def vault(project, monkeypatch):
    password = project.write("password", "secret")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    program = Path(sys.executable).with_name("ansible-vault")
    command = [program, "encrypt_string", "--name", "network", "hidden"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    project.write("group_vars/all.yml", done.stdout)


def script(project, monkeypatch):
    project.inventory = project.write("fleet.sh", SCRIPT)
    project.inventory.chmod(0o755)


def constructed(project, monkeypatch):
    project.inventory = project.folder
    project.write("z.yml", CONSTRUCTED)


def variable(name, value):
    return lambda _, monkeypatch: monkeypatch.setenv(name, value)


def facts(project, monkeypatch):
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN", "jsonfile")
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN_CONNECTION", str(project.folder / "facts"))


def value(template):
    return lambda project, _: project.write("group_vars/all.yml", f'when: 2020-01-01\nnetwork: "{template}"')


# What an answer depends on that cannot be compared later, or must not be kept.
NEVER = {
    "a vault": vault,
    "a vault that nothing is in": lambda project, monkeypatch: monkeypatch.setenv(
        "ANSIBLE_VAULT_PASSWORD_FILE", str(project.write("password", "secret"))
    ),
    "a secret that nobody can read": edit("group_vars/all.yml", "other: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3030"),
    "a script": script,
    "a plugin that constructs": constructed,
    "the environment": value("{{ lookup('env', 'HOME') }}"),
    "a file": value("{{ lookup('file', '/etc/passwd') }}"),
    "a program": value("{{ query('pipe', 'echo 1') }}"),
    "a short query": value("{{ q('random_choice', [1]) }}"),
    "the time": value("{{ now() }}"),
    "the time by another name": value("{% set clock = now %}{{ clock() }}"),
    "the time of a date": value("{{ when.today() }}"),
    "the time in a filter": value("{{ '%s' | strftime }}"),
    "chance": value("{{ [1, 2] | random }}"),
    "chance at second hand": value("{{ [[1, 2]] | map('random') | list }}"),
    "salt": value("{{ 'x' | password_hash }}"),
    "somebody else's words": value("{{ lipsum(1) }}"),
    "whether there is a file": value("{{ '/etc' is directory }}"),
    "a collection": value("{{ 'x' | community.general.crc32 }}"),
    "a plugin for values": edit("../home/.ansible/plugins/vars/own.py", VARS_PLUGIN),
    "a filter of the operator's": edit(OWN_FILTER, "class FilterModule:\n    filters = lambda self: {}"),
    "extensions of Jinja": variable("ANSIBLE_JINJA2_EXTENSIONS", "jinja2.ext.do"),
    "facts of an earlier run": facts,
}


@pytest.mark.parametrize("prepare", NEVER.values(), ids=NEVER)
def test_what_cannot_be_compared_is_never_kept(project, monkeypatch, prepare):
    prepare(project, monkeypatch)
    assert [project.load()[1], project.load()[1]] == [1, 1]
    assert not list(project.cache.rglob("*.json"))


def test_an_inventory_that_cannot_be_read_is_read_again(project):
    project.write("fleet.yml", "all: [")
    for _ in range(2):
        before = len(_starts)
        with pytest.raises(UsageError):
            resolve(project.inventory)
        assert len(_starts) == before + 1


def flip(entry):
    entry.write_bytes(entry.read_bytes().replace(b'"value": "fleet"', b'"value": "gleet"'))


def lend(entry):
    entry.rename(entry.with_name("kept"))
    entry.symlink_to("kept")


DAMAGE = {
    "nothing in it": lambda entry: entry.write_bytes(b""),
    "cut off": lambda entry: entry.write_bytes(entry.read_bytes()[:-9]),
    "one bit": flip,
    "no bytes of ours": lambda entry: entry.write_bytes(os.urandom(500)),
    "readable by the group": lambda entry: entry.chmod(0o640),
    "a folder for all": lambda entry: entry.parent.chmod(0o755),
    "a link": lend,
}
if os.geteuid() == 0:  # only root can give a file away
    DAMAGE["somebody else's"] = lambda entry: os.chown(entry, 65534, 65534)


def test_an_entry_that_is_damaged_or_not_ours_alone_counts_for_nothing(project):
    assert project.load() == ("fleet", 1)
    for name, damage in DAMAGE.items():
        damage(project.entry)
        assert [project.load(), project.load()] == [("fleet", 1), ("fleet", 0)], name
        folder, entry = (stat.S_IMODE(path.stat().st_mode) for path in (project.entry.parent, project.entry))
        assert (folder, entry) == (0o700, 0o600), name


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(project):
    project.cache.write_text("not a folder")
    assert [project.load(), project.load()] == [("fleet", 1), ("fleet", 1)]


def test_the_newest_entries_are_kept(project):
    for number in range(KEPT + 3):
        keep(Path(f"/fleets/{number}.yml"), {}, {}, [], {})
    assert len(list(project.cache.rglob("*.json"))) == KEPT
