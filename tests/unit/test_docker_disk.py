"""When a disk becomes Docker's folder, and when it is refused: the role's script on a host of stand-in programs."""

from __future__ import annotations

import functools
import os
import subprocess
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.celium.ops.plugins.module_utils import managed
from test_host_scripts import script

from celium_ops.workflows.plan import drifted

# What each says or does is in a file of the folder; shell, as a case calls some ten of them.
PROGRAM = """#!/bin/sh
cd {folder} || exit 99
case "${{0##*/}} $*" in
lsblk*MAJ:MIN*) cat disk; test -s disk ;;
lsblk*NAME,TYPE*) echo nvme1n1 disk; cat parts ;;
lsblk*MOUNTPOINT*) cat used ;;
blkid*) cat tags; test -s tags || exit 2 ;;
"wipefs -n "*) cat signs; test ! -s deaf ;;
findmnt*) cat here ;;
systemctl*is-active*) test -s active ;;
mkfs.xfs*" -f "*) exit 99 ;;
mkfs.xfs*) printf 'TYPE=xfs\nLABEL=celium-disk\nUUID=new\n' >tags; echo formatted >>did ;;
mount*) if [ -s broken ]; then cat broken >&2; exit 1; fi; echo "259:0 rw,$4" >here; echo mounted >>did ;;
udevadm*) ;;
*) exit 99 ;;
esac
"""
PROGRAMS = ("lsblk", "blkid", "wipefs", "findmnt", "systemctl", "mkfs.xfs", "mount", "udevadm")
NAMES = ("disk", "parts", "used", "tags", "signs", "deaf", "here", "active", "broken", "did")
DISK = "259:0 disk 0 2000000000000"
NEW = dict.fromkeys(NAMES, "") | {"disk": DISK}
OURS = "TYPE=xfs\nLABEL=celium-disk\nUUID=new\n"
QUOTAS = "259:0 rw,relatime,prjquota\n"


@functools.cache
def rendered():
    """Return the script, with marks in the place of what a test decides."""
    names = [f"_nvidia_docker_disk_{name}" for name in ("asked", "root", "fstab", "daemon")]
    return script("nvidia_docker", "_nvidia_docker_disk", **{name: f"@{name[20:]}@" for name in names})


class Host:
    """A host whose disk, mounts and services are what a test says."""

    def __init__(self, folder):
        self.state, programs = folder / "state", folder / "bin"
        self.asked, self.device = folder / "by-id-nvme", folder / "nvme1n1"
        self.root, self.fstab, self.daemon = folder / "docker", folder / "fstab", folder / "daemon.json"
        self.wanted_root = str(self.root)
        self.device.write_bytes(bytes(2 << 20))
        self.asked.symlink_to(self.device)
        self.state.mkdir()
        programs.mkdir()
        for name in PROGRAMS:
            (programs / name).write_text(PROGRAM.format(folder=self.state))
            (programs / name).chmod(0o755)
        self.environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def put(self, text):
        """Return a text with this host's names in it."""
        return text.format(disk=self.asked, device=self.device, root=self.root)

    def become(self, **state):
        """Make the host as a test says."""
        for name, text in (NEW | state).items():
            (self.state / name).write_text(text)

    def runs(self, word):
        """Run the script; return its exit status, what it says, and what it complains of."""
        places = {"asked": self.asked, "root": self.wanted_root, "fstab": self.fstab, "daemon": self.daemon}
        text = rendered()
        for name, place in places.items():
            text = text.replace(f"@{name}@", str(place))
        command = ["sh", "-c", f"{text}\ndisk {word}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment)
        return done.returncode, yaml.safe_load(done.stdout) or {}, done.stderr

    def is_now(self):
        """Return what the host is like."""
        return {name: (self.state / name).read_text() for name in NAMES}

    def refuses(self, said, **state):
        """Assert that the disk is refused with these words, looked at and asked for, and nothing is done."""
        self.become(**state)
        code, seen, complaint = self.runs("look")
        assert (code, said in seen.get("disk_problem", ""), complaint) == (0, True, ""), (seen, complaint)
        assert "disk_todo" not in seen
        code, _, complaint = self.runs("bring")
        assert (code, said in complaint) == (1, True), complaint
        assert self.is_now() == NEW | state


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


# What is unusual about a new host and its empty disk, and what the refusal says.
REFUSED = [
    ({"disk": ""}, "no such block device"),
    ({"disk": DISK.replace("disk", "part")}, "a partition"),
    ({"disk": DISK.replace("disk 0", "disk 1")}, "only be read"),
    ({"disk": "259:0 disk 0 99999999999"}, "it has 99 GB, and validators want 100"),
    ({"parts": "nvme1n1p1 part"}, "has partitions, or something is built on it (nvme1n1p1 part)"),
    ({"parts": "md0 raid1"}, "(md0 raid1)"),
    ({"used": "\n/srv/data\n"}, "in use, as /srv/data"),
    ({"used": "[SWAP]"}, "in use, as [SWAP]"),
    ({"signs": "ext4 data", "tags": "TYPE=ext4\nLABEL=data\n"}, "not empty (ext4 data); when nothing"),
    ({"signs": "gpt \nPMBR \n"}, "not empty (gpt PMBR)"),
    ({"signs": "LVM2_member"}, "LVM2_member"),
    ({"signs": "xfs other", "tags": OURS.replace("celium-disk", "other")}, "xfs other"),
    ({"signs": "ext4 celium-disk", "tags": OURS.replace("xfs", "ext4")}, "ext4"),
    ({"deaf": "yes"}, "wipefs cannot read it"),
    ({"active": "yes"}, "Docker runs"),
    ({"tags": OURS, "used": "/mnt"}, "in use, as /mnt"),
    ({"tags": OURS, "active": "yes"}, "Docker runs"),
    ({"here": "8:1 rw"}, "another file system is mounted there"),
    ({"tags": OURS, "here": "8:1 rw,prjquota"}, "another file system is mounted there"),
    ({"tags": OURS, "here": "259:0 rw,noquota"}, "without project quotas"),
    ({"tags": OURS, "here": QUOTAS + "259:0 rw,usrquota"}, "without project quotas"),
    ({"tags": "TYPE=ext4\n", "here": QUOTAS}, "but as ext4"),
]


@pytest.mark.parametrize(("unusual", "said"), REFUSED)
def test_a_disk_that_is_not_empty_or_not_a_disk_is_refused_before_anything_is_done(host, unusual, said):
    host.refuses(said, **unusual)


FSTAB = [
    ("{disk} none swap sw 0 0", "", "says otherwise"),
    ("{device} /srv ext4 defaults 0 2", "", "says otherwise, {device} on /srv"),
    ("/dev/sdz1 {root} ext4 defaults 0 2", OURS, "says otherwise, /dev/sdz1 on {root}"),
    ("UUID=old {root} xfs prjquota 0 0", OURS, "says otherwise"),
    ("LABEL=celium-disk /srv xfs defaults 0 0", OURS, "says otherwise"),
    ("UUID=new {root} xfs defaults,nofail 0 0", OURS, "without project quotas"),
    ("{disk} {root} xfs defaults 0 0", OURS, "without project quotas"),
]


@pytest.mark.parametrize(("line", "tags", "said"), FSTAB)
def test_what_fstab_says_otherwise_is_refused(host, line, tags, said):
    host.fstab.write_text("# comment\n\nproc /proc proc defaults 0 0\n" + host.put(line))  # no line break at the end
    host.refuses(host.put(said), tags=tags)


@pytest.mark.parametrize("tags", ["", OURS])
def test_docker_with_data_is_refused_and_told_what_to_do(host, tags):
    (host.root / "overlay2").mkdir(parents=True)
    for name in ("image", "it's mine"):
        (host.root / name).mkdir()
    host.refuses("that folder holds something (image it's mine overlay2), and nothing is moved", tags=tags)
    host.refuses(f"mv {host.root} {host.root}.before", tags=tags)


def test_data_that_have_no_name_are_refused(host):
    host.device.write_bytes(bytes(5000) + b"x" + bytes(2 << 20))
    host.refuses("its first MiB is not zero; when nothing of it is needed")


def test_what_comes_between_the_look_and_the_deed_is_refused(host):
    host.become()
    assert host.runs("look")[1]["disk_todo"] == "format mount fstab"
    host.become(signs="ext4")
    assert host.runs("bring")[0] == 1
    assert host.is_now() == NEW | {"signs": "ext4"}


# Where a deploy was ended, and what the next one finds to do.
BEGUN = [
    ({}, "", "format mount fstab"),
    ({"tags": OURS}, "", "mount fstab"),
    ({"tags": OURS, "signs": "xfs celium-disk"}, "UUID=new {root} xfs prjquota,nofail 0 0", "mount"),
    ({"tags": OURS, "here": QUOTAS, "active": "yes"}, "", "fstab"),
    ({"tags": OURS, "here": QUOTAS, "active": "yes"}, "{disk} {root} xfs pquota", ""),
    # Somebody else's XFS, where it has to be: nothing is left to do.
    ({"tags": OURS.replace("celium-disk", "data"), "here": QUOTAS, "active": "yes"},
     "LABEL=data {root} xfs rw,pquota 0 2", ""),
]  # fmt: skip
DONE = {"format": "formatted\n", "mount": "mounted\n", "fstab": ""}


@pytest.mark.parametrize(("state", "fstab", "todo"), BEGUN)
def test_what_was_begun_goes_on_and_is_done_once(host, state, fstab, todo):
    host.become(**state)
    host.fstab.write_text(host.put(fstab))
    code, seen, said = host.runs("look")
    assert (code, seen["disk_todo"], said) == (0, todo, "")
    assert (host.is_now(), seen["disk_root"]) == (NEW | state, str(host.root))
    code, done, said = host.runs("bring")
    assert (code, said, done["disk_uuid"]) == (0, "", "new")
    assert host.is_now()["did"] == "".join(DONE[word] for word in todo.split())
    host.fstab.write_text(host.put("UUID=new {root} xfs prjquota 0 0\n"))
    after = host.is_now()
    assert host.runs("look")[1]["disk_todo"] == ""
    assert (host.runs("bring")[0], host.is_now()) == (0, after)


def test_a_mount_that_fails_says_why_and_the_next_deploy_mounts(host):
    host.become(broken="mount: wrong fs type")
    code, _, said = host.runs("bring")
    assert (code, said, host.is_now()["did"]) == (1, "mount: wrong fs type", "formatted\n")
    (host.state / "broken").write_text("")
    assert (host.runs("bring")[0], host.is_now()["did"]) == (0, "formatted\nmounted\n")


@pytest.mark.parametrize(
    ("daemon", "root"),
    [
        (None, "/var/lib/docker"),
        ('{"live-restore": true}', "/var/lib/docker"),
        ('{"debug": false, "data-root" : "/data/docker", "x": "y"}', "/data/docker"),
        ('{\n  "data-root": "/data/../docker"\n}\n', "/docker"),
    ],
)
def test_dockers_folder_is_where_its_configuration_says(host, daemon, root):
    if daemon:
        host.daemon.write_text(daemon)
    host.wanted_root = "''"
    host.become(disk="")
    assert host.runs("look")[1]["disk_root"] == root


def test_without_the_variable_no_disk_is_looked_at():
    assert script("nvidia_docker", "_nvidia_docker_disk_probe") == ""
    known = {"nvidia_docker_disk": "/dev/x", "_nvidia_docker_disk_asked": "/dev/x", "_nvidia_docker_disk_root": ""}
    assert script("nvidia_docker", "_nvidia_docker_disk_probe", **known).count("\ndisk look\n") == 1


LINE = "UUID=new {root} xfs prjquota,nofail 0 0\n"
SAID = "UUID=new {root} xfs prjquota,nofail"
MISSING = f"fstab is missing, was there; line of fstab is nothing, was {SAID}"
DRIFTS = [
    ("{device} {root} xfs rw,prjquota 0 0\n", LINE, ""),
    ("/dev/sda1 {root} ext4 rw 0 0\n{device} {root} xfs rw,prjquota 0 0\n", LINE, ""),
    ("", LINE, "disk is nothing, was {disk}; quotas is off, was prjquota"),
    ("/dev/sda1 {root} xfs rw,prjquota 0 0\n", LINE, "disk is /dev/sda1, was {disk}"),
    ("{device} {root} xfs rw,noquota 0 0\n", LINE, "quotas is off, was prjquota"),
    ("{device} {root} xfs rw,prjquota 0 0\n", "# " + LINE, MISSING),
    ("{device} {root} xfs rw,prjquota 0 0\n", None, MISSING),
]
ANOTHER = [
    LINE.replace("prjquota,", ""),
    LINE.replace("=new", "=old"),
]


@pytest.mark.parametrize("line", ANOTHER)
def test_a_plan_names_another_line_for_the_next_boot(host, monkeypatch, line):
    entry = {"kind": "mount", "name": str(host.root), "disk": str(host.asked), "quotas": "prjquota"}
    monkeypatch.setattr(managed, "_FSTAB", host.fstab)
    host.fstab.write_text(host.put(LINE))
    before = managed.Eyes("x").see(entry)
    host.fstab.write_text(host.put(line))
    (found,) = managed.drift({"salt": "x", "things": [entry | {"state": before}]})
    assert drifted(found).why == host.put(f"line of fstab is {line.removesuffix(' 0 0' + chr(10))}, was {SAID}")


@pytest.mark.parametrize(("mounts", "fstab", "why"), DRIFTS)
def test_a_plan_names_what_became_of_the_disk(host, monkeypatch, mounts, fstab, why):
    """The state that the role wants is what the record holds; here it is held against what came of it."""
    entry = {"kind": "mount", "name": str(host.root), "disk": str(host.asked), "quotas": "prjquota"}
    wanted = {"disk": str(host.asked), "quotas": "prjquota", "fstab": "there"}
    state = wanted | {"line of fstab": [host.put(SAID)]}
    table = host.root.with_name("mounts")
    table.write_text("proc /proc proc rw 0 0\n" + host.put(mounts))
    if fstab is not None:
        host.fstab.write_text(host.put(fstab))
    monkeypatch.setattr(managed, "_MOUNTS", table)
    monkeypatch.setattr(managed, "_FSTAB", host.fstab)
    found = [drifted(one) for one in managed.drift({"salt": "x", "things": [entry | {"state": state}]})]
    assert [(one.kind, one.name, one.why) for one in found] == (
        [("directory", str(host.root), host.put(why))] if why else []
    )
    if why:
        with pytest.raises(ValueError, match="changed while it was played"):
            managed.make([entry | {"wants": wanted}])


SURVEYED = [
    ("/dev/sda1 / ext4 rw\n", "ext4", ["rw"]),
    ("/dev/sda1 / ext4 rw\n/dev/x /srv xfs rw,prjquota\n", "ext4", ["rw"]),
    ("/dev/x {root} xfs rw,prjquota\n/dev/sda1 / ext4 rw\n", "xfs", ["rw", "prjquota"]),
    ("/dev/x {root} xfs rw,noquota\n/dev/y {root} xfs rw,prjquota\n", "xfs", ["rw", "prjquota"]),
]


@pytest.mark.parametrize(("mounts", "filesystem", "options"), SURVEYED)
def test_preflight_sees_what_dockers_folder_really_is(host, on_host, monkeypatch, mounts, filesystem, options):
    table = host.root.with_name("mounts")
    table.write_text(host.put(mounts))
    info = dict.fromkeys(("ServerVersion", "CgroupDriver", "LiveRestoreEnabled", "Driver"))
    monkeypatch.setattr(on_host, "docker_says", lambda _: {**info, "DockerRootDir": str(host.root)})
    monkeypatch.setattr(on_host, "_MOUNTS", table)
    monkeypatch.setattr(on_host.shutil, "disk_usage", lambda _: SimpleNamespace(total=1, free=1))
    seen = on_host.docker({})
    assert (seen["filesystem"], seen["options"], seen["containerd"]) == (filesystem, options, False)
