"""The NVIDIA driver on a host, as a playbook brings it: judged, pinned, held, changed, and a reboot where it needs one.

The tests tell one story in order, on the executor of ``test_docker_sources``, with plain Ansible. Packages
are stand-ins from a signed repository; apt, holds and Docker are real. A container has no kernel of its own: what it
runs is a file here, which a stand-in of modprobe writes, and the only boot is one that does not happen.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager

import pytest
from docker_role import HOST, PLAY
from ruamel.yaml import YAML

OLD, NEW = "580.82.09", "580.95.05"
MODULE = "/run/lab-nvidia-module"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
ALLOWED = {"nvidia_docker_reboot": True, "nvidia_docker_reboot_timeout": 5}
STATE = (
    "find /etc/apt /usr/share/keyrings -type f | sort | xargs sha256sum; apt-mark showhold;"
    "dpkg-query -W -f '${Package} ${Version}\\n' '*nvidia*' || :"
)
MODPROBE = f"""
mkdir -p /lib/modules/$(uname -r)/build
cat > /usr/local/sbin/modprobe <<'END'
#!/bin/sh
if [ -e {MODULE} ]; then exit 0; fi  # it is loaded
if [ -e /run/lab-no-card ]; then echo "modprobe: ERROR: could not insert '$1': No such device" >&2; exit 1; fi
readlink -f {LIBRARY} | sed 's/.*[.]so[.]//' > {MODULE}
END
cat > /usr/local/sbin/modinfo <<'END'
#!/bin/sh
cat /run/lab-built 2>/dev/null || readlink -f {LIBRARY} | sed 's/.*[.]so[.]//'
END
chmod 755 /usr/local/sbin/modprobe /usr/local/sbin/modinfo
"""


class Story:
    """One host, and a playbook that plays one role there."""

    def __init__(self, lab, folder):
        self.lab, self.folder = lab, folder
        address = next(one["address"] for one in lab.status()["hosts"] if one["name"] == HOST)
        hosts = {"executors": {"hosts": {HOST: {"ansible_host": str(address)}}}}
        # The file before this one has taken the host out of the lab's inventory.
        (folder / "host.yml").write_text(json.dumps(hosts))
        (folder / "play.yml").write_text(PLAY)

    def play(self, version, *flags, **values):
        """Play, and return what the recap counts for the host, and what the task said that failed."""
        given = {
            "nvidia_docker_source": "vendor",
            "nvidia_docker_toolkit": True,
            "nvidia_docker_driver_version": version,
            "celium_ruleset": "2025-12",
            "_nvidia_docker_module": MODULE,
            "_nvidia_docker_module_said": "/nowhere",
        }
        command = ["ansible-playbook", "-i", str(self.lab.inventory), "-i", "host.yml", "play.yml"]
        command += ["-e", json.dumps(given | values), *flags]
        env = {**self.lab.ansible, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout)
        tasks = [task["hosts"][HOST] for play in answer["plays"] for task in play["tasks"] if HOST in task["hosts"]]
        said = [task["msg"] for task in tasks if task.get("failed")]
        assert bool(said) == bool(done.returncode), done.stdout + done.stderr
        return answer["stats"][HOST]["changed"], " ".join(said[-1].split()) if said else ""

    def on(self, script):
        return self.lab.on(HOST, script)

    def packages(self):
        """Return the versions of the driver's packages, and which of them are held."""
        lines = self.on("dpkg-query -W -f '${Package} ${Version}\\n' '*nvidia*-580*'").splitlines()
        held = set(self.on("apt-mark showhold").split())
        found = dict(line.split() for line in lines)
        return {name: (version, name in held) for name, version in found.items()}


@pytest.fixture(scope="module")
def story(lab, tmp_path_factory):
    """Give the host with a modprobe that needs no kernel, and take it off again."""
    lab.ok("lab", "up", "--executors", "4")
    story = Story(lab, tmp_path_factory.mktemp("driver"))
    story.on(MODPROBE)
    yield story
    story.on(f"rm -f /usr/local/sbin/mod* {MODULE} /run/lab-*; docker rm -f container_1 2>/dev/null || :")
    yaml = YAML()
    tree = yaml.load(lab.inventory)
    if tree["all"]["children"]["executors"]["hosts"].pop(HOST, None) is not None:
        yaml.dump(tree, lab.inventory)


@contextmanager
def rented(story):
    """Let somebody rent the host: a container of that name, with an image made on the spot."""
    story.on(
        "tar -ch /usr/bin/sleep $(ldd /usr/bin/sleep | grep -o '/[^ ]*') 2>/dev/null | docker import - tiny >/dev/null;"
        "docker run -d --name container_1 tiny /usr/bin/sleep 900 >/dev/null"
    )
    try:
        yield
    finally:
        story.on("docker rm -f container_1 >/dev/null")


@contextmanager
def deaf_to_reboots(story):
    """Let the host be told to reboot, and not do it; what it was told is in a file."""
    story.on(
        "mv /usr/sbin/shutdown /usr/sbin/shutdown.lab;"
        "printf '#!/bin/sh\\necho \"$@\" > /run/lab-told\\n' > /usr/sbin/shutdown; chmod 755 /usr/sbin/shutdown"
    )
    try:
        yield
    finally:
        story.on("mv -f /usr/sbin/shutdown.lab /usr/sbin/shutdown; rm -f /run/lab-told")


def test_a_driver_that_validators_do_not_know_is_refused_before_anything_is_touched(story):
    before = story.on(STATE)
    changed, said = story.play("580.105.08")
    assert "by the rules of 2025-12 validators do not know it (NVML_DRIVER_UNKNOWN)" in said
    assert "of its branch they know 580.82.07, 580.82.09, 580.95.05; give nvidia_docker_driver_version another" in said
    assert (changed, story.on(STATE)) == (0, before)


def test_a_check_says_that_it_would_be_installed_and_does_nothing(story):
    before = story.on(STATE)
    changed, said = story.play(OLD, "--check", "--diff")
    assert (said, changed >= 3, story.on(STATE)) == ("", True, before)


def test_a_driver_comes_in_one_version_held_and_running(story):
    assert story.play(OLD)[1] == ""
    names = ("libnvidia-compute-580", "libnvidia-gpucomp-580", "nvidia-compute-utils-580", "nvidia-utils-580")
    # What apt chose itself is the older one of two as well: no package asks for it.
    assert story.packages() == dict.fromkeys((*names, "nvidia-dkms-580-open"), (f"{OLD}-0ubuntu1", True))
    assert story.on(f"cat {MODULE}") == OLD
    assert story.on("apt-get -qq update 2>&1; apt-get -s dist-upgrade | grep '^Inst.*nvidia.*-580' || :") == ""
    assert story.play(OLD) == (0, "")


def test_one_that_runs_is_not_changed_where_the_host_may_not_boot(story):
    before = story.on(STATE)
    changed, said = story.play(NEW)
    assert f"the driver {OLD} runs here, {NEW} is wanted" in said
    assert "set nvidia_docker_reboot: true for it" in said
    assert (changed, story.on(STATE)) == (0, before)


def test_a_rented_host_keeps_its_driver(story):
    before = story.on(STATE)
    with rented(story):
        changed, said = story.play(NEW, **ALLOWED)
        assert (
            f"The NVIDIA driver {NEW} is wanted here, and {OLD} is installed, but this host is rented out (container_1)"
            in said
        )
        assert story.on("docker inspect -f '{{.State.Running}}' container_1") == "true"
    assert (changed, story.on(STATE)) == (0, before)


def test_a_host_that_was_to_boot_and_did_not_fails_by_its_boot_id(story):
    story.on(f"apt-get -qq install -y nvidia-fabricmanager-580={OLD}-0ubuntu1 2>&1")
    with deaf_to_reboots(story):
        _, said = story.play(NEW, **ALLOWED)
        assert story.on("cat /run/lab-told").startswith("-r 0 celium-ops reboots this host for its NVIDIA driver")
    boot = story.on("cat /proc/sys/kernel/random/boot_id")
    assert f"since its kernel runs the NVIDIA driver {OLD}, its library is {NEW}" in said
    assert f"did not within 5 s: its boot id is still {boot}" in said
    found = story.packages()
    assert set(found.values()) == {(f"{NEW}-0ubuntu1", True)}, "held ones were changed, all of them, and are held again"
    assert "nvidia-fabricmanager-580" in found, "it works with its own driver only"


def test_a_reboot_that_waits_is_named_and_never_made_under_a_rental(story):
    before = story.on(STATE)
    changed, said = story.play(NEW)
    assert (changed, f"its kernel runs the NVIDIA driver {OLD}, its library is {NEW}: it has to boot; set" in said) == (
        0,
        True,
    ), said
    story.on(f"echo {OLD} > /run/lab-built")
    assert f"for which that driver is not built ({OLD}). Nothing was booted" in story.play(NEW, **ALLOWED)[1]
    story.on("rm /run/lab-built")
    with deaf_to_reboots(story):
        assert story.play(NEW, "--check", **ALLOWED) == (1, ""), "a check says that it would"
        with rented(story):
            assert "but this host is rented out (container_1)" in story.play(NEW, **ALLOWED)[1]
        assert story.on("ls /run/lab-told 2>/dev/null || :") == "", "nobody told it to"
    assert story.on(STATE) == before


def test_a_module_that_cannot_be_loaded_is_a_reason_and_one_that_can_is_loaded(story):
    story.on(f"rm {MODULE}; touch /run/lab-no-card")  # as after a boot
    said = story.play(NEW)[1]
    assert (
        f"the module of the NVIDIA driver {NEW} cannot be loaded (modprobe: ERROR: could not insert 'nvidia': No"
        in said
    )
    assert "it has to boot; set nvidia_docker_reboot: true" in said
    story.on("rm /run/lab-no-card")
    assert story.play(NEW) == (1, "")
    assert story.on(f"cat {MODULE}") == NEW
    assert story.play(NEW) == (0, "")


def test_a_change_that_was_cut_off_goes_on_and_what_is_asked_for_later_comes(story):
    story.on("apt-get -qq remove -y --allow-change-held-packages nvidia-dkms-580-open nvidia-fabricmanager-580 2>&1")
    assert story.play(NEW)[1] == ""
    assert "nvidia-dkms-580-open" in story.packages()
    assert "nvidia-fabricmanager-580" not in story.packages()
    extra = {"nvidia_docker_driver_extra": ["nvidia-fabricmanager-BRANCH"]}
    assert story.play(NEW, **extra)[1] == ""
    assert story.packages()["nvidia-fabricmanager-580"] == (f"{NEW}-0ubuntu1", True)
    assert story.play(NEW, **extra) == (0, "")


def test_the_pin_of_a_driver_that_we_brought_is_kept(story):
    pin = "/etc/apt/preferences.d/celium-nvidia-driver"
    look = f"stat -c '%a %U' {pin}; cat {pin}"
    before = story.on(look)
    for change in ("chmod 600", "sed -i s/1001/100/", "rm"):
        story.on(f"{change} {pin}")
        assert story.play(NEW) == (1, ""), change
        assert story.on(look) == before
