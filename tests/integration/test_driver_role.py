"""What role nvidia_docker makes of a host's driver, worked out by Ansible: packages, refusals, reboots."""

import json
import os
import subprocess

import pytest
import yaml

from celium_ops.base.paths import collection_dir

WANTED = "580.95.05"
SHOWN = (
    "_nvidia_docker_driver_due",
    "_nvidia_docker_driver_asleep",
    "_nvidia_docker_problem",
    "_nvidia_docker_reboot_why",
    "_nvidia_docker_reboot_refused",
    "_nvidia_docker_reboot_failed",
    "_nvidia_docker_driver_manages",
    "_nvidia_docker_driver_unpinned",
)
OF_A_VERSION = (
    "_nvidia_docker_driver_packages",
    "_nvidia_docker_driver_source",
    "_nvidia_docker_driver_preference",
)
THERE = {"engine": "29.1.3", "compose": "2.40", "source": "vendor", "snap": "", "driver": WANTED, "module": WANTED,
         "nouveau": "", "headers": "", "secure": "", "runfile": "", "boot": "a-b", "next": "6.8", "machine": "m",
         "lacks": "", "pinned": WANTED, "pin": "", "brought": ""}  # fmt: skip
UBUNTU = {
    "architecture": "x86_64",
    "distribution": "Ubuntu",
    "distribution_version": "24.04",
    "distribution_major_version": "24",
}
ARM = {**UBUNTU, "architecture": "aarch64"}
BOOKWORM = {
    "architecture": "x86_64",
    "distribution": "Debian",
    "distribution_version": "12.9",
    "distribution_major_version": "12",
}
TRIXIE = {
    "architecture": "x86_64",
    "distribution": "Debian",
    "distribution_version": "13.1",
    "distribution_major_version": "13",
}
NEW = {"driver": "", "module": ""}
OLD = {"driver": "570.86.15", "module": "570.86.15"}
NIGHT = {"driver": WANTED, "module": "580.82.09"}
REBOOT = {"nvidia_docker_reboot": True}
FAILED = {"__nvidia_docker_modprobe": {"stderr": "modprobe: ERROR: could not insert 'nvidia': No such device\n"}}
UNSIGNED = {"__nvidia_docker_modprobe": {"stderr": "could not insert 'nvidia': Key was rejected by service"}}
UNBUILT = {"__nvidia_docker_modprobe": {"stderr": "FATAL: Module nvidia not found in directory /lib/modules/6.8"}}

# What is found on the host, what the inventory says beside the version, and what is in the text that comes of it;
# None stands for no text.
PROBLEMS = {
    "nothing to do": ({}, {}, None),
    "a new host": (NEW, {}, None),
    "a lower one than the rules want": (NEW, {"nvidia_docker_driver_version": "570.86.15"}, "before 580.65.06"),
    "an unlisted one where the list is whole": (
        NEW, {"nvidia_docker_driver_version": "580.1", "celium_ruleset": "2025-12"},
        "(NVML_DRIVER_UNKNOWN); of its branch they know 580.82.07, 580.82.09, 580.95.05;"),
    "none of its branch": (
        NEW, {"nvidia_docker_driver_version": "999.1", "celium_ruleset": "2025-12"}, "of its branch they know none;"),
    "an unlisted one where the list has more": (NEW, {"nvidia_docker_driver_version": "580.105.08"}, None),
    "an unlisted one all the same": (
        NEW, {"nvidia_docker_driver_version": "1.1", "nvidia_docker_driver_unlisted": True}, None),
    "an unlisted one that celium-ops has judged": (
        NEW, {"nvidia_docker_driver_version": "1.1", "_nvidia_docker_driver_judged": True}, None),
    "an unlisted one for all, on a host without cards": (
        NEW, {"nvidia_docker_driver_version": "1.1", "nvidia_docker_toolkit": False}, None),
    "a number": (NEW, {"nvidia_docker_driver_version": 550.12, "celium_ruleset": "2025-08"}, "put it in quotes"),
    "another one runs": (OLD, {}, "set nvidia_docker_reboot: true for it"),
    "another one runs and may go": (OLD, REBOOT, None),
    "another one runs here": (OLD, {**REBOOT, "ansible_connection": "local"}, "the machine that Ansible runs on"),
    "another one is there and does not run": ({**OLD, "module": ""}, {}, None),
    "NVIDIA's installer was here": ({**OLD, "runfile": "/usr/bin/nvidia-uninstall"}, REBOOT, "`nvidia-uninstall`"),
    "NVIDIA's installer brought the right one": ({"runfile": "/usr/bin/nvidia-uninstall"}, {}, None),
    "an unlisted one that is there": ({}, {"celium_ruleset": "2025-08"}, None),
    "cut off in the middle": ({"lacks": " nvidia-dkms-580-open"}, {"celium_ruleset": "2025-08"}, "is not installed"),
    "a machine of another kind": (NEW, {"facts": ARM}, "installed on x86_64 only, not on aarch64"),
    "a machine of another kind that has it": ({"lacks": " nvidia-dkms-580-open", "pinned": ""}, {"facts": ARM}, None),
    "docker is worse": ({**OLD, "snap": "/snap/bin/docker"}, {}, "Docker is here as a snap"),
}  # fmt: skip
REBOOTS = {
    "it runs": ({}, REBOOT, None, None),
    "upgraded in the night": (
        NIGHT, {}, "its kernel runs the NVIDIA driver 580.82.09, its library is 580.95.05", "set nvidia_docker_reboot"),
    "upgraded in the night, and may": (NIGHT, REBOOT, "its library is 580.95.05", None),
    "upgraded in the night, and is this machine": (
        NIGHT, {**REBOOT, "ansible_connection": "local"}, "its library", "the machine that Ansible runs on"),
    "upgraded in the night, and is this machine by its id": (
        NIGHT, REBOOT, "its library", "the machine that Ansible runs on"),
    "upgraded in the night, nobody's wish": (NIGHT, {"nvidia_docker_driver_version": None}, None, "set nvidia"),
    "upgraded in the night, nobody's wish, and may": (
        NIGHT, {"nvidia_docker_driver_version": None, **REBOOT}, "its library is 580.95.05", None),
    "no cards": (NIGHT, {**REBOOT, "nvidia_docker_toolkit": False}, None, None),
    "nouveau": ({"module": "", "nouveau": "loaded"}, REBOOT, "nouveau has its cards", None),
    "nouveau for another card": ({"nouveau": "loaded"}, REBOOT, None, None),
    "not loaded": ({"module": ""}, {**REBOOT, **FAILED}, "(modprobe: ERROR: could not insert 'nvidia': No such", None),
    "not signed": (
        {"module": "", "secure": "1"}, {**REBOOT, **UNSIGNED}, "Key was rejected", "no reboot will change that"),
    "not built": ({"module": ""}, {**REBOOT, **UNBUILT}, "not found in directory", "none was built for this kernel"),
}  # fmt: skip
LACKS, ELSEWHERE = {"lacks": " nvidia-dkms-580-open nvidia-fabricmanager-580"}, {"pinned": ""}
UNPINNED = {"pinned": "", "brought": "# Written by celium-ops."}
FABRIC = {"nvidia_docker_driver_extra": ["nvidia-fabricmanager-BRANCH"]}
DUE = {
    "whole": ({}, {}, False),
    "cut off": (LACKS, {}, True),
    "from elsewhere": ({**LACKS, **ELSEWHERE}, {}, False),
    "from elsewhere, and more is asked for": ({**LACKS, **ELSEWHERE}, FABRIC, True),
    "more is asked for and there": ({}, FABRIC, False),
    "pinned to another": ({"pinned": "570.86.15"}, {}, True),
    "more that has another name": ({}, {"nvidia_docker_driver_extra": ["libother1"]}, False),
    "without its pin": (UNPINNED, {}, False),
    "without its pin, and not whole": ({**LACKS, **UNPINNED}, {}, False),
    "whole, and packages may change": ({}, {"nvidia_docker_hold": False}, False),
}
"""What the probe found, what is given, and whether something is to be done."""
BOOTED = {
    "well": (["c-d", WANTED], None),
    "not at all": (["a-b", WANTED], "its boot id is still a-b"),
    "with another driver": (["c-d", "570.86.15"], "runs the NVIDIA driver 570.86.15 instead of 580.95.05"),
    "without one": (["c-d"], "runs no NVIDIA driver instead of 580.95.05"),
    "and never came back": (None, "has not come back within 900 s"),
}
SETS = {
    "580 on Ubuntu": (
        UBUNTU, {},
        ["libnvidia-compute-580", "nvidia-compute-utils-580", "nvidia-utils-580", "nvidia-dkms-580-open"]),
    "580 on Ubuntu, proprietary": (
        UBUNTU, {"nvidia_docker_driver_modules": "proprietary"},
        ["libnvidia-compute-580", "nvidia-compute-utils-580", "nvidia-utils-580", "nvidia-dkms-580"]),
    "590 on Ubuntu, with more": (
        UBUNTU, {"nvidia_docker_driver_version": "590.44.01", "nvidia_docker_driver_extra": ["nvidia-fabricmanager"]},
        ["libnvidia-compute", "nvidia-persistenced", "nvidia-dkms-open", "nvidia-fabricmanager"]),
    "580 on Debian 12": (
        BOOKWORM, {}, ["nvidia-driver-cuda", "libcuda1", "nvidia-persistenced", "nvidia-kernel-open-dkms"]),
    "580 on Debian 13": (
        TRIXIE, {}, ["nvidia-driver-cuda", "libcuda1", "nvidia-persistenced", "nvidia-kernel-open-dkms"]),
}  # fmt: skip


def case(found=(), given=(), system=UBUNTU):
    """Return the variables of a host on which the probe has found something."""
    return {
        "__nvidia_docker_probe": {"stdout": yaml.safe_dump({**THERE, **dict(found)})},
        "__nvidia_docker_modprobe": {"stderr": ""},
        "nvidia_docker_toolkit": True,
        "nvidia_docker_driver_version": WANTED,
        "celium_ruleset": "2026-09",
        "facts": system,
        **dict(given),
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return what each variable is for each case, all worked out in one run."""
    folder = tmp_path_factory.mktemp("driver")
    cases = {f"problem {name}": case(found, given) for name, (found, given, _) in PROBLEMS.items()}
    cases |= {f"reboot {name}": case(found, given) for name, (found, given, *_) in REBOOTS.items()}
    cases |= {f"due {name}": case(found, given) for name, (found, given, _) in DUE.items()}
    cases |= {
        f"booted {name}": case(NIGHT, {**REBOOT, "__nvidia_docker_booted": {"stdout_lines": lines} if lines else {}})
        for name, (lines, _) in BOOTED.items()
    }
    cases |= {f"set {name}": case(NEW | {"headers": "linux-headers-6"}, given, system)
              for name, (system, given, _) in SETS.items()}  # fmt: skip
    aliases = {name: f"case-{number}" for number, name in enumerate(cases)}
    hosts = {aliases[name]: values for name, values in cases.items()}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    role = collection_dir() / "roles/nvidia_docker"
    computed = [str(file) for file in sorted((role / "vars/main").glob("*.yml"))]
    # As in a play: defaults give way to the inventory, what the role computes does not.
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    (folder / "group_vars").mkdir()
    (folder / "group_vars/all.yml").write_text(yaml.safe_dump(defaults))
    facts = {name: f"{{{{ facts.{name} }}}}" for name in UBUNTU}
    # What the controller has judged comes from outside, and goes before everything.
    judged = f"inventory_hostname == '{aliases['problem an unlisted one that celium-ops has judged']}'"
    controller = f"inventory_hostname == '{aliases['reboot upgraded in the night, and is this machine by its id']}'"
    packages = {name: f"{{{{ {name} if _nvidia_docker_driver else none }}}}" for name in OF_A_VERSION}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": computed,
        "tasks": [
            {"ansible.builtin.set_fact": {"_nvidia_docker_driver_judged": True}, "when": judged},
            {"ansible.builtin.set_fact": {"_nvidia_docker_controller": "m"}, "when": controller},
            {"ansible.builtin.set_fact": {**facts, "cacheable": True}},
            {"ansible.builtin.debug": {"msg": {name: f"{{{{ {name} }}}}" for name in SHOWN} | packages}},
        ],
    }
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_FORKS": "2"}
    command = ["ansible-playbook", "-i", str(folder / "hosts.yml"), str(folder / "play.yml")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    failed = [line for line in done.stdout.splitlines() if '"msg": "' in line]
    assert done.returncode == 0, (failed, done.stderr)
    answers = json.loads(done.stdout)["plays"][0]["tasks"][-1]["hosts"]
    return {name: answers[alias]["msg"] for name, alias in aliases.items()}


@pytest.mark.parametrize("name", PROBLEMS)
def test_who_cannot_be_helped_hears_why_before_anything_is_changed(told, name):
    said, wanted = told[f"problem {name}"]["_nvidia_docker_problem"], PROBLEMS[name][2]
    assert (not said) if wanted is None else wanted in said, said


@pytest.mark.parametrize("name", REBOOTS)
def test_a_host_boots_only_where_that_is_needed_and_allowed_and_helps(told, name):
    _, _, why, refused = REBOOTS[name]
    seen = told[f"reboot {name}"]
    assert (not seen["_nvidia_docker_reboot_why"]) if why is None else why in seen["_nvidia_docker_reboot_why"]
    if why is not None:
        said = seen["_nvidia_docker_reboot_refused"]
        assert (not said) if refused is None else refused in said, said


def test_a_pin_is_put_back_only_where_the_driver_is_wholly_ours(told):
    again = {name for name in DUE if told[f"due {name}"]["_nvidia_docker_driver_unpinned"]}
    assert "without its pin" in again
    assert not again & {"without its pin, and not whole", "from elsewhere"}


def test_what_lets_a_play_act_is_recorded(told):
    recorded = {name: {one["name"] for one in told[name]["_nvidia_docker_driver_manages"]} for name in told}
    boots = [name for name in told if told[name]["_nvidia_docker_reboot_why"]]
    assert boots
    assert all("NVIDIA driver" in recorded[name] for name in boots)
    unheld = recorded["due whole, and packages may change"] - recorded["due whole"]
    assert unheld == {"driver"}, "missing ones are installed again, so they are looked at, held or not"
    assert "driver" in recorded["due more that has another name"]


@pytest.mark.parametrize("name", BOOTED)
def test_what_a_host_shows_after_a_boot_counts(told, name):
    said, wanted = told[f"booted {name}"]["_nvidia_docker_reboot_failed"], BOOTED[name][1]
    assert (not said) if wanted is None else wanted in said, said


@pytest.mark.parametrize("name", SETS)
def test_packages_have_the_names_of_their_branch_and_one_version(told, name):
    _, given, names = SETS[name]
    version = given.get("nvidia_docker_driver_version", WANTED)
    seen = told[f"set {name}"]
    assert seen["_nvidia_docker_driver_packages"] == [*(f"{one}={version}-*" for one in names), "linux-headers-6"]
    assert f"Pin: version {version}-*\n" in seen["_nvidia_docker_driver_preference"]


def test_each_distribution_has_its_own_repository_and_key(told):
    sources = [told[f"set {name}"]["_nvidia_docker_driver_source"] for name in SETS]
    base = "https://developer.download.nvidia.com/compute/cuda/repos"
    assert {source["uri"]: (source["key"].rpartition("/")[2], source["fingerprint"][-8:]) for source in sources} == {
        f"{base}/ubuntu2404/x86_64": ("3bf863cc.pub", "3BF863CC"),
        f"{base}/debian12/x86_64": ("3bf863cc.pub", "3BF863CC"),
        f"{base}/debian13/x86_64": ("8793F200.pub", "8793F200"),
    }


def test_something_is_done_only_where_another_driver_is_or_none_runs(told):
    due, of_due = {name for name in told if told[name]["_nvidia_docker_driver_due"]}, {f"due {name}" for name in DUE}
    assert {name for name in DUE if DUE[name][2]} == {name.removeprefix("due ") for name in due if name in of_due}
    asleep = {name for name in told if told[name]["_nvidia_docker_driver_asleep"]}
    assert {"problem a new host", "problem another one runs"} <= due
    assert not due & {"problem nothing to do", "reboot upgraded in the night", "reboot no cards"}
    assert asleep == {f"reboot {name}" for name in ("nouveau", "not loaded", "not signed", "not built")}
