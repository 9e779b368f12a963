"""The scripts that roles run on hosts, against a systemctl that plays a host; in the lab they meet real ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import jinja2
import pytest
import yaml
from ansible_collections.celium.ops.plugins.module_utils import managed

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import computed_variables

SYSTEMCTL = """#!{python}
import json, os, pathlib, sys
file = pathlib.Path({file!r})
units = json.loads(file.read_text())
verb, *names = [word for word in sys.argv[1:] if not word.startswith("--")]
wanted = [word[8:] for word in sys.argv if word.startswith("--state=")]
def save():
    file.write_text(json.dumps(units))
if verb in ("list-units", "list-unit-files"):
    column = ("active", "enabled")[verb == "list-unit-files"]
    for name in sorted(set(names) & set(units)):
        if units[name][column] in wanted:
            print(name, units[name][column], "x")
elif verb in ("is-active", "is-enabled"):
    state = units.get(names[0], dict(active="inactive", enabled="not-found"))[verb[3:]]
    if "--quiet" not in sys.argv:
        print(state)
    sys.exit(state not in ("active", "enabled"))
elif verb == "start":
    unit = units[names[0]]
    if unit.get("broken"):
        sys.exit("Job for " + names[0] + " failed.")
    if not unit.get("left_out"):
        unit["active"] = "active"
    save()
elif verb == "stop":
    units[names[0]]["active"] = "inactive"
    save()
elif verb in ("enable", "disable"):
    if units[names[0]]["enabled"] == "masked":
        sys.exit("Unit file is masked.")
    assert os.environ["SYSTEMD_OFFLINE"] == "1", "it would reload systemd"
    units[names[0]]["enabled"] = verb + "d"
    save()
"""
KEPT = {"active": "active", "enabled": "enabled"}
STOPPED = {"active": "inactive", "enabled": "enabled"}
OFF = {"active": "inactive", "enabled": "disabled"}


def script(role: str, name: str, **values: object) -> str:
    """Return a script as Ansible would hand it over."""
    host = {"ansible_facts": {"architecture": os.uname().machine}, "_nvidia_docker_driver": ""}
    known = computed_variables(role) | host | values
    text = known[name]
    while "{{" in text:
        text = jinja2.Environment(autoescape=False).from_string(text).render(known)  # noqa: S701 -- no HTML
    return text


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Return what runs a script on a host with some units: its exit status, what it said, and the units afterwards."""
    file, program = tmp_path / "units.json", tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.format(python=sys.executable, file=str(file)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def runs(text, word, units):
        file.write_text(json.dumps(units))
        done = subprocess.run(["sh", "-c", text, word], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr, json.loads(file.read_text())

    return runs


CLOCKS = [
    ({"chrony.service": KEPT}, 0, "keeper: 'chrony.service'", None),
    ({"ntpsec.service": KEPT, "chrony.service": OFF}, 0, "keeper: 'ntpsec.service'", None),
    ({"chrony.service": STOPPED}, 0, "changed: started chrony.service\nkeeper: 'chrony.service'", "chrony.service"),
    (
        {"chrony.service": KEPT | {"enabled": "disabled"}},
        0,
        "changed: enabled chrony.service\nkeeper: 'chrony.service'",
        "chrony.service",
    ),
    ({"chrony.service": OFF}, 0, "keeper: ''", None),
    ({}, 0, "keeper: ''", None),
    # As timesyncd in a container: systemd says that it was started.
    ({"systemd-timesyncd.service": STOPPED | {"left_out": True}}, 0, "keeper: ''", None),
    (
        {"ntpsec.service": STOPPED, "systemd-timesyncd.service": STOPPED | {"left_out": True}},
        0,
        "changed: started ntpsec.service\nkeeper: 'ntpsec.service'",
        "ntpsec.service",
    ),
    ({"chrony.service": STOPPED | {"broken": True}}, 1, "Job for chrony.service failed.", None),
    ({"chrony.service": KEPT | {"enabled": "masked"}}, 0, "keeper: 'chrony.service'", None),
]


@pytest.mark.parametrize(("units", "code", "said", "cured"), CLOCKS)
def test_whoever_keeps_the_clock_goes_on(host, units, code, said, cured):
    clock = script("common", "_common_clock")
    found = host(clock, "keep", units)
    assert (found[0], said in found[1]) == (code, True), found
    assert found[2] == units | ({cured: units[cured] | KEPT} if cured else {})
    if code == 0:
        again = host(clock, "keep", found[2])
        assert "changed" not in again[1]
        assert again[2] == found[2]


@pytest.mark.parametrize("units", [row[0] for row in CLOCKS])
def test_a_check_says_what_is_to_be_done_and_does_nothing(host, units):
    code, said, after = host(script("common", "_common_clock"), "look", units)
    assert (code, after) == (0, units)
    well = any(one == KEPT or one["enabled"] == "masked" for one in units.values()) or all(
        one == OFF for one in units.values()
    )
    assert ("changed" in said) == (not well)


def test_a_new_keeper_that_systemd_leaves_out_is_an_error_that_says_what_to_do(host):
    start = script("common", "_common_clock_start")
    assert host(start, "", {"chrony.service": OFF})[::2] == (0, {"chrony.service": KEPT})
    code, said, _ = host(start, "", {"chrony.service": OFF | {"left_out": True}})
    assert (code, "celium_clock: false" in said) == (1, True)


RUNTIME_FILES = [
    ("[nvidia-container-cli]\nno-cgroups = false\n", False),
    ("[nvidia-container-cli]\n#no-cgroups = true\n", False),
    ("#[x]\n[nvidia-container-cli]\nno-cgroups = true\n", True),
    ("[nvidia-container-cli]\n  no-cgroups=true # theirs\nuser = 'x'\n", True),
    ("nvidia-container-cli.no-cgroups = true\n", True),
    ("nvidia-container-cli = {user = 'x', no-cgroups = true}\n", True),
    ('[nvidia-container-cli]\n"no-cgroups" = true\n', True),
    ("", False),
]


@pytest.mark.parametrize(("text", "wrong"), RUNTIME_FILES)
def test_cards_that_no_cgroups_takes_are_seen_by_preflight_and_deploy_and_given_back(
    on_host, tmp_path, monkeypatch, text, wrong
):
    file = tmp_path / "config.toml"
    file.write_text(text)
    monkeypatch.setattr(on_host, "_RUNTIME", file)
    assert on_host._runtime() == {"kind": "file", "no_cgroups": wrong}
    known = {"_nvidia_docker_runtime": str(file), "_nvidia_docker_loose": "true"}
    look = script("nvidia_docker", "_nvidia_docker_probe", **known)
    done = subprocess.run(["sh", "-c", look], capture_output=True, text=True, check=False)
    assert bool(yaml.safe_load(done.stdout)["cgroups"]) == wrong
    (task,) = [
        task["ansible.builtin.replace"]
        for task in yaml.safe_load((collection_dir() / "roles/nvidia_docker/tasks/configure.yml").read_text())
        if "ansible.builtin.replace" in task
    ]
    cured = re.sub(task["regexp"], task["replace"], text, flags=re.MULTILINE)  # as the module does
    assert cured == (re.sub(r"= ?true", lambda found: found[0].replace("true", "false"), text) if wrong else text)


WITH_IMAGES = """#!{python}
import json, pathlib, sys
file = pathlib.Path({file!r})
images = json.loads(file.read_text())
if sys.argv[1] == "tag":
    images[sys.argv[3]] = images[sys.argv[2]]
    file.write_text(json.dumps(images))
else:
    found = images.get(sys.argv[-1])
    print(found or "Error: No such image", file=sys.stdout if found else sys.stderr)
    sys.exit(found is None)
"""
NAME, PINNED = "daturaai/compute-subnet-executor:latest", "registry.example/executor@sha256:0"
NAMES = [
    ({PINNED: "sha256:1"}, True),
    ({PINNED: "sha256:1", NAME: "sha256:2"}, True),
    ({PINNED: "sha256:1", NAME: "sha256:1"}, False),
]


@pytest.mark.parametrize(("images", "wrong"), NAMES)
def test_the_executors_image_gets_the_name_that_validators_run(tmp_path, monkeypatch, images, wrong):
    file, program = tmp_path / "images.json", tmp_path / "docker"
    program.write_text(WITH_IMAGES.format(python=sys.executable, file=str(file)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    file.write_text(json.dumps(images))
    assert computed_variables("executor")["_executor_public_name"] == NAME

    def play(word):
        command = ["sh", "-c", script("executor", "_executor_name"), word, PINNED, NAME, "{{.Id}}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert play("look") == ["sha256:1", *([NAME] if wrong else [])]
    assert json.loads(file.read_text()) == images, "a check changes nothing"
    assert play("tag") == ["sha256:1", *([NAME] if wrong else [])]
    assert json.loads(file.read_text()) == {PINNED: "sha256:1", NAME: "sha256:1"}
    assert play("tag") == ["sha256:1"]


def test_a_check_of_a_host_without_the_image_says_that_it_gets_the_name(tmp_path, monkeypatch):
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command = ["sh", "-c", script("executor", "_executor_name"), "look", PINNED, NAME, "{{.Id}}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines() == ["none", NAME]


PERSISTENCE = [
    ({}, "", False),
    ({"nvidia-persistenced.service": KEPT}, "enabled active", False),
    ({"nvidia-persistenced.service": KEPT | {"enabled": "static"}}, "", False),
    ({"nvidia-persistenced.service": STOPPED | {"enabled": "static"}}, "", False),
    ({"nvidia-persistenced.service": STOPPED}, "enabled inactive", True),
    ({"nvidia-persistenced.service": OFF}, "disabled inactive", True),
    ({"nvidia-persistenced.service": OFF | {"enabled": "masked"}}, "", False),
]


@pytest.mark.parametrize(("units", "said", "wrong"), PERSISTENCE)
def test_persistence_where_a_driver_brings_it(host, tmp_path, units, said, wrong):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    found = host(script("nvidia_docker", "_nvidia_docker_probe", _nvidia_docker_loose="true"), "", units)
    seen = yaml.safe_load(found[1])["persistence"]
    assert seen == said
    (task,) = [
        task
        for task in yaml.safe_load((collection_dir() / "roles/nvidia_docker/tasks/start.yml").read_text())
        if "persistence" in str(task.get("when"))
    ]
    assert bool(re.search(re.search(r"search\('(.*)'\)", task["when"])[1], seen)) == wrong
    if wrong:
        persist = script("nvidia_docker", "_nvidia_docker_persist")
        assert host(persist, "look", units)[2] == units
        assert host(persist, "start", units)[2] == {"nvidia-persistenced.service": KEPT}


SYSBOX = {"sysbox.service": KEPT}
REFRESH = {"nvidia-cdi-refresh.path": KEPT, "nvidia-cdi-refresh.service": STOPPED}
REFRESH_OFF = {"nvidia-cdi-refresh.path": OFF, "nvidia-cdi-refresh.service": OFF}
CDI_UNITS = "nvidia-cdi-refresh.path\nnvidia-cdi-refresh.service\n"
STARTED = "sysbox is enabled\nsysbox is started\n"


@pytest.mark.parametrize(
    ("units", "spec", "said", "after"),
    [
        (SYSBOX, False, "", SYSBOX),
        (SYSBOX | REFRESH_OFF, False, "", SYSBOX | REFRESH_OFF),
        (SYSBOX | REFRESH, True, CDI_UNITS + "SPEC\n", SYSBOX | REFRESH_OFF),
        (SYSBOX, True, "SPEC\n", SYSBOX),
        ({"sysbox.service": OFF}, False, STARTED, SYSBOX),
        ({"sysbox.service": STOPPED}, False, "sysbox is started\n", SYSBOX),
        ({"sysbox.service": STOPPED} | REFRESH, True, f"sysbox is started\n{CDI_UNITS}SPEC\n", SYSBOX | REFRESH_OFF),
    ],
)
def test_sysbox_runs_and_cdi_is_off(host, tmp_path, units, spec, said, after):
    (tmp_path / "sysbox-runc").write_text("#!/bin/sh\n")
    (tmp_path / "sysbox-runc").chmod(0o755)
    file = tmp_path / "nvidia.yaml"
    if spec:
        file.write_text("cdiVersion: x\n")
    known = {"_nvidia_docker_cdi_specs": [str(file)], "_nvidia_docker_loose": "true", "nvidia_docker_sysbox": True}
    expected = said.replace("SPEC", str(file))

    def probe_says(units):
        found = host(script("nvidia_docker", "_nvidia_docker_probe", **known), "sh", units)
        assert found[2] == units, "a probe only looks"
        return yaml.safe_load(found[1])

    states = (units["sysbox.service"]["enabled"], units["sysbox.service"]["active"])
    assert probe_says(units)["sysbox"] == " ".join(states)
    assert probe_says(units)["cdi"].split() == [line for line in expected.splitlines() if not line.startswith("sysbox")]
    on = script("nvidia_docker", "_nvidia_docker_sysbox_on", **known)
    assert host(on, "look", units) == (0, expected, units)
    assert file.exists() == spec
    assert host(on, "start", units) == (0, expected, after)
    assert not file.exists()
    assert (tmp_path / "nvidia.yaml.celium-ops").exists() == spec, "kept beside, under a name that nobody reads"
    assert host(on, "start", after) == (0, "", after)
    works = computed_variables("nvidia_docker")["_nvidia_docker_sysbox_works"]
    assert (probe_says(after)["sysbox"], probe_says(after)["cdi"]) == (works, "")


def test_sysbox_that_does_not_start_is_an_error(host):
    on = script("nvidia_docker", "_nvidia_docker_sysbox_on")
    assert host(on, "start", {"sysbox.service": STOPPED | {"broken": True}})[0] == 1


DOCKER = r"""#!/bin/sh
case "$*" in
ps)
  echo 'CONTAINER ID   IMAGE   COMMAND   CREATED       STATUS       PORTS             NAMES'
  echo '0a             pod:1   "x y"     2 hours ago   Up 2 hours   0.0.0.0:1->1/tcp  container_1'
  echo '0b             b       "z"       now           Up                             executor-1';;
"network ls -q") printf 'a1\nb2\n';;
"network inspect a1 b2") printf '[{\n "Options": {\n  "com.docker.network.bridge.name": "docker0",\n}},'
  printf '{"Options": {\n  "com.docker.network.bridge.name": "mine"\n}}]\n';;
esac
"""
IP = """#!/bin/sh
echo '[{"dst":"default","gateway":"10.0.0.1","dev":"eth0","flags":[]},{"dst":"10.0.0.0/24","flags":["linkdown"]}]'
"""


def test_the_probe_sees_routes_and_what_runs(host, tmp_path):
    def look(**wanted):
        known = {"_nvidia_docker_loose": "true", **wanted}
        return yaml.safe_load(host(script("nvidia_docker", "_nvidia_docker_probe", **known), "sh", {})[1])

    for name, text in (("docker", DOCKER), ("ip", IP)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    seen = look()
    assert [route["dst"] for route in seen["routes"]] == ["default", "10.0.0.0/24"]
    assert not {"bridges", "running", "sysbox", "cdi"} & seen.keys(), "each costs every host time"
    assert look(nvidia_docker_address_pools=[1])["bridges"] == "docker0 mine"
    seen = look(nvidia_docker_sysbox=True)
    assert (seen["running"], seen["sysbox"], seen["cdi"]) == ("container_1 executor-1", "", "")
    (tmp_path / "ip").write_text("#!/bin/sh\nexit 1\n")
    assert look()["routes"] is None


# The kernel separates numbers by tabs, and refuses what it does not have.
SYSCTL = """\
#!/bin/sh
[ "$1" = -n ] && exec cat "$KERNEL/$2"
[ "$1 $2" = "-q -w" ] && printf '%s\\n' "${3#*=}" | tr ' ' '\\t' > "$KERNEL/${3%%=*}"
"""
WANTED = "net.ipv4.tcp_rmem=4096 131072 6291456\nvm.swappiness=10"


@pytest.fixture
def keep_sysctls(tmp_path, monkeypatch):
    kernel, file = tmp_path / "kernel", tmp_path / "90-celium.conf"
    kernel.mkdir()
    (kernel / "vm.swappiness").write_text("60\n")
    (kernel / "net.ipv4.tcp_rmem").write_text("4096\t131072\t6291456\n")
    (tmp_path / "sysctl").write_text(SYSCTL)
    (tmp_path / "sysctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("KERNEL", str(kernel))
    keep = script("common", "_common_sysctls_keep", _common_sysctls_file=str(file))

    def run(word, wanted=WANTED):
        done = subprocess.run(["sh", "-c", keep, word, wanted], capture_output=True, text=True, check=False)
        now = (kernel / "vm.swappiness").read_text().strip()
        return done.returncode, done.stdout.split(), now, file.read_text() if file.exists() else None

    run.file = str(file)
    return run


def test_settings_of_the_kernel_are_kept_and_a_check_only_names_them(keep_sysctls):
    differs = ["vm.swappiness", keep_sysctls.file]
    assert keep_sysctls("look") == (0, differs, "60", None)
    assert keep_sysctls("keep") == (0, differs, "10", WANTED + "\n")
    assert keep_sysctls("keep") == (0, [], "10", WANTED + "\n")


def test_a_setting_that_the_kernel_does_not_have_is_not_written(keep_sysctls):
    assert keep_sysctls("keep", "vm.nonsense=1")[::3] == (1, None)


def test_the_record_knows_settings_of_the_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(managed, "_SYSCTLS", tmp_path)
    for name in ("vm/swappiness", "net/ipv4/conf/eth0.1/rp_filter"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("4096\t7\n")
    eyes = managed.Eyes("salt")
    for name in ("vm.swappiness", "vm/swappiness", "net.ipv4.conf.eth0/1.rp_filter", "net/ipv4/conf/eth0.1/rp_filter"):
        assert eyes.see({"kind": "sysctl", "name": name}) == {"value": "4096 7"}, name
    assert eyes.see({"kind": "sysctl", "name": "vm.nonsense"}) is None


def test_the_record_knows_the_program_that_a_shell_would_run(tmp_path):
    paths = [tmp_path / "local", tmp_path / "packaged"]
    entry, eyes = {"kind": "program", "name": "docker", "paths": list(map(str, paths))}, managed.Eyes("salt")
    paths[1].write_text("")
    assert eyes.see(entry) is None, "nobody can run it"
    paths[1].chmod(0o755)
    assert eyes.see(entry)["path"] == str(paths[1])
    paths[0].write_text("")
    paths[0].chmod(0o755)
    assert eyes.see(entry)["path"] == str(paths[0])


@pytest.mark.parametrize(
    ("missing", "more", "asked"),
    [("echo not-found", [], 2), ("exit 1", [], 5), ("echo not-found", ["script.service"], 8)],
    ids=["all at once", "Debian 12's stops at one that is not there", "of init scripts it speaks first"],
)
def test_the_record_asks_systemd_of_its_units(tmp_path, monkeypatch, missing, more, asked):
    (tmp_path / "systemctl").write_text(f"""#!/bin/sh
echo $* >> {tmp_path}/asked; verb=$1; shift
case "$verb $*" in *enabled*script*) echo disabled ;; esac
for unit; do case "$verb $unit" in
    *active*none*) echo inactive ;; *active*) echo active ;; *script*) ;; *none*) {missing} ;; *) echo enabled ;;
esac; done
""")
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "script").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(managed, "_SCRIPTS", tmp_path)
    entries = [{"kind": "unit", "name": name} for name in ("docker.service", "none.service", "chrony.service", *more)]
    eyes, there = managed.Eyes("salt", entries), {"active": "active", "enabled": "enabled"}
    gone = None if "exit" in missing else {"active": "inactive", "enabled": "not-found"}
    script = [dict(there, enabled="disabled")] * len(more)
    assert [eyes.see(entry) for entry in entries] == [there, gone, there, *script]
    assert len((tmp_path / "asked").read_text().splitlines()) == asked
