"""A disk becomes Docker's folder on a new host, or is refused: loop devices that are disks for the lab's kernel.

The tests tell one story in order, on an executor that no other file uses: refusals first, then the disk, then what an
interruption or a hand leaves. This kernel may lack project quotas, so the role is told to mount without; see
docs/lab-limits.md.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from fleet import Fleet

HOST = "executor-5"
PLAY = f"""
- hosts: {HOST}
  become: true
  gather_facts: true
  gather_subset: [min]
  roles: [celium.ops.nvidia_docker]
  post_tasks:
    - celium.ops.record:
        manages: "{{{{ _nvidia_docker_managed }}}}"
"""
ROOT = "/var/lib/docker"
# Loop devices are the machine's: those of another lab are told by the name of this folder.
FOLDER = "/var/lib/celium-disks-of-" + os.environ.get("CELIUM_TEST_LAB", "tests")
# A host is a container, whose /dev has no new loop device until it is made; other labs take loop devices, too.
ATTACH = """
mkdir -p {folder} /dev/disk/by-id
truncate -s {size} {folder}/{name}
for _ in 1 2 3 4 5; do
  n=$(python3 -c 'import fcntl; print(fcntl.ioctl(open("/dev/loop-control", "rb+", 0), 0x4C82))')
  [ -b /dev/loop$n ] || mknod /dev/loop$n b 7 $n
  losetup /dev/loop$n {folder}/{name} && ln -sfn /dev/loop$n /dev/disk/by-id/celium-{name} && exit 0
done
exit 1
"""
# By the names of the files, so that those of a run that was killed are found, too.
DETACH = f"""
losetup --noheadings --output NAME,BACK-FILE --list | grep {FOLDER}/ | while read -r device _; do
  [ -b $device ] || mknod $device b 7 ${{device#/dev/loop}}
  losetup -d $device
done
rm -rf {FOLDER} /dev/disk/by-id/celium-*
"""
# These tests start Docker more often in a minute than systemd lets anyone.
STOP = "systemctl stop docker.socket docker.service; systemctl reset-failed docker.service"
FIRST = "head -c 4194304 /dev/disk/by-id/celium-{0} | sha256sum"


@pytest.fixture(scope="module")
def host(lab):
    """Give the lab with a new host; afterwards its disks are gone, too."""
    lab.ok("lab", "up", "--executors", "5")
    lab.on(HOST, DETACH)
    yield lab
    lab.on(HOST, f"{STOP}; umount -l {ROOT}; {DETACH}")
    Fleet(lab).forget(HOST)


def attach(lab, name, size="110G"):
    lab.on(HOST, ATTACH.format(folder=FOLDER, name=name, size=size))
    return f"/dev/disk/by-id/celium-{name}"


def play(lab, folder, disk, *arguments):
    """Play the role with a disk; return the exit status, all that was said, and what was changed."""
    (folder / "disk.yml").write_text(PLAY)
    values = {"nvidia_docker_disk": disk, "_nvidia_docker_disk_quota": "noquota"}
    command = ["ansible-playbook", "-i", str(lab.inventory), "disk.yml", "-e", json.dumps(values), *arguments]
    done = subprocess.run(command, cwd=folder, env=lab.ansible, capture_output=True, text=True, check=False)
    recap = next(line for line in done.stdout.splitlines() if line.startswith(f"{HOST} "))
    counts = dict(word.split("=") for word in recap.split(":")[1].split())
    return done.returncode, done.stdout + done.stderr, int(counts["changed"])


def refused(lab, folder, disk, *words):
    code, said, changed = play(lab, folder, disk)
    assert (code, changed) == (2, 0), said
    assert [word for word in words if word not in said] == [], said


def well(answer):
    assert answer[0] == 0, answer[1]
    return answer[2]


def test_another_file_system_in_dockers_place_is_refused(host, tmp_path):
    # Each host of a lab has a volume there, as overlay does not stack on overlay.
    refused(host, tmp_path, attach(host, "empty"), f"Docker's folder {ROOT}", "another file system is mounted there")
    host.on(HOST, f"umount {ROOT}")


HOLDS = {
    "ext4": "command -v mkfs.ext4 || (apt-get -qq update && apt-get -qq install -y e2fsprogs); mkfs.ext4 -q {0}",
    "dos": "printf '\\0\\0\\2\\0\\203\\0\\0\\0\\0\\10\\0\\0\\0\\120\\0\\0' | dd of={0} bs=1 seek=446 status=none;"
    "printf '\\125\\252' | dd of={0} bs=1 seek=510 status=none",
    "swap": "mkswap -q {0}",
    "first MiB": "echo mine | dd of={0} bs=1 seek=70000 status=none",
}


@pytest.mark.parametrize("what", HOLDS)
def test_a_disk_that_holds_something_is_refused(host, tmp_path, what):
    name = what.split()[0]
    disk = attach(host, name)
    host.on(HOST, HOLDS[what].format(disk))
    before = host.on(HOST, FIRST.format(name))
    refused(host, tmp_path, disk, "it is not empty", what, f"wipefs -a {disk}")
    assert host.on(HOST, FIRST.format(name)) == before


def test_a_small_a_missing_and_a_used_disk_are_refused(host, tmp_path):
    refused(host, tmp_path, attach(host, "small", "50G"), "it has 53 GB, and validators want 100")
    refused(host, tmp_path, "/dev/disk/by-id/nowhere", "there is no such block device")
    host.on(HOST, "mkdir -p /mnt/used && mount /dev/disk/by-id/celium-ext4 /mnt/used")
    try:
        refused(host, tmp_path, "/dev/disk/by-id/celium-ext4", "it is in use, as /mnt/used")
    finally:
        host.on(HOST, "umount /mnt/used")
    host.on(HOST, "cp -a /etc/fstab /root/fstab; echo '/dev/disk/by-id/celium-empty none swap sw 0 0' >> /etc/fstab")
    try:
        refused(host, tmp_path, "/dev/disk/by-id/celium-empty", "/etc/fstab says otherwise")
    finally:
        host.on(HOST, "mv /root/fstab /etc/fstab")


def test_a_check_says_what_would_be_done_and_does_nothing(host, tmp_path):
    disk = "/dev/disk/by-id/celium-empty"
    before = host.on(HOST, f"{FIRST.format('empty')}; cat /etc/fstab; cat /proc/mounts")
    code, said, changed = play(host, tmp_path, disk, "--check", "--diff")
    assert (code, changed >= 3, f"+UUID=of-what-is-made {ROOT} xfs" in said) == (0, True, True), said
    assert host.on(HOST, f"{FIRST.format('empty')}; cat /etc/fstab; cat /proc/mounts") == before


def test_an_empty_disk_is_formatted_and_mounted_before_docker_comes(host, tmp_path):
    disk = "/dev/disk/by-id/celium-empty"
    assert well(play(host, tmp_path, disk)) >= 4
    device = host.on(HOST, f"readlink -f {disk}")
    assert host.on(HOST, f"findmnt -nro SOURCE,FSTYPE -M {ROOT}") == f"{device} xfs"
    uuid = host.on(HOST, f"blkid -p -s UUID -o value {device}")
    assert f"UUID={uuid} {ROOT} xfs noquota,nofail,x-systemd.before=docker.service" in host.on(HOST, "cat /etc/fstab")
    assert host.on(HOST, "docker info -f '{{.Driver}} {{.DockerRootDir}}'") == f"overlay2 {ROOT}"
    assert host.on(HOST, f"ls {ROOT}/overlay2 >/dev/null; docker volume create kept") == "kept"
    assert "ftype=1" in host.on(HOST, f"xfs_info {ROOT}")


def test_a_second_play_changes_nothing(host, tmp_path):
    assert well(play(host, tmp_path, "/dev/disk/by-id/celium-empty")) == 0


def test_what_a_hand_undid_is_named_by_the_plan_and_done_again(host, tmp_path):
    disk = "/dev/disk/by-id/celium-empty"
    started = host.on(HOST, "cat /run/docker.pid")
    host.on(HOST, f"sed -i '\\#{ROOT}#d' /etc/fstab")
    found = json.loads(host.run("-i", str(host.inventory), "plan", "--limit", HOST, "--json").stdout)
    (drift,) = [one["drift"] for one in found["hosts"] if one["name"] == HOST]
    assert [one for one in drift if (one["kind"], one["name"]) == ("directory", ROOT) and "missing" in one["why"]]
    # As after a deploy that was killed between the two: mounted, and not in fstab.
    assert well(play(host, tmp_path, disk)) == 1
    assert ROOT in host.on(HOST, "cat /etc/fstab")
    assert host.on(HOST, "cat /run/docker.pid") == started
    # Formatted, and not mounted. Nothing of it reloads systemd.
    since = host.on(HOST, f"{STOP}; umount {ROOT}; sleep 1; date +%s")
    assert well(play(host, tmp_path, disk)) >= 1
    assert host.on(HOST, "docker volume ls -q") == "kept", "it was not formatted again"
    said = host.on(HOST, f"journalctl -q -o cat --since=@{since} _PID=1")
    assert not [line for line in said.splitlines() if line.startswith(("Reloading.", "Reload requested"))]
    assert well(play(host, tmp_path, disk)) == 0


def test_docker_that_has_data_is_refused(host, tmp_path):
    disk, ext4 = "/dev/disk/by-id/celium-empty", "/dev/disk/by-id/celium-ext4"
    host.on(HOST, f"{STOP}; umount {ROOT}; sed -i '\\#{ROOT}#d' /etc/fstab")
    try:
        host.on(HOST, f"mount {ext4} {ROOT} && systemctl start docker.service")
        for one in (disk, attach(host, "second")):
            refused(host, tmp_path, one, "that folder holds something", f"mv {ROOT} {ROOT}.before")
        assert host.on(HOST, f"systemctl is-active docker.service; findmnt -no FSTYPE -M {ROOT}") == "active\next4"
    finally:
        host.on(HOST, f"{STOP}; umount {ROOT}")
    assert well(play(host, tmp_path, disk)) >= 2
    assert host.on(HOST, "docker volume ls -q") == "kept"
