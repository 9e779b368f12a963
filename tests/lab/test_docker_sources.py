"""Where Docker and the NVIDIA toolkit come from: signed repositories on a virgin host, and what is wrong with them.

The tests tell one story in order, on an executor that no other file uses: faults first, which leave nothing, then the
installation. The packages are stand-ins, the repositories, their signatures and apt are real.
"""

from __future__ import annotations

import json
import subprocess

import pytest
from docker_role import HOST, PLAY
from fleet import Fleet
from ruamel.yaml import YAML

WANTED = {
    "nvidia_docker_source": "vendor",
    "nvidia_docker_version": "28.5.2",
    "nvidia_docker_toolkit": True,
    "nvidia_docker_toolkit_version": "1.17.8",
}
# In AWS's default VPC a host has a route for its own part, and Docker's pools hold all of it.
VPC = "172.31.16.0/20"
TRUST = "find /etc/apt /usr/share/keyrings -type f | sort | xargs sha256sum"


@pytest.fixture(scope="module")
def host(lab):
    """Give the lab with a virgin host that has met Docker's old instructions and someone's own runtime."""
    lab.ok("lab", "up", "--executors", "4")
    lab.on(
        HOST,
        f"""
        ip route add blackhole {VPC}
        echo 'deb [signed-by=/etc/apt/keyrings/docker.gpg] {repository(lab)}/ubuntu noble stable' \
            > /etc/apt/sources.list.d/docker.list
        mkdir /etc/docker
        echo '{{"debug": false, "runtimes": {{"kata": {{"path": "/usr/bin/kata"}}}}}}' > /etc/docker/daemon.json
        """,
    )
    yield lab
    Fleet(lab).forget(HOST)


def variables(lab):
    return YAML(typ="safe").load(lab.inventory)["all"]["vars"]


def repository(lab):
    return variables(lab)["nvidia_docker_repository"]


def play(lab, folder, *arguments, **values):
    """Play the role alone, with plain Ansible, and return what the host's line of the recap says."""
    done = played(lab, folder, *arguments, **values)
    assert done.returncode == 0, done.stdout + done.stderr
    recap = next(line for line in done.stdout.splitlines() if line.startswith(f"{HOST} "))
    return {name: int(count) for name, count in (word.split("=") for word in recap.split(":")[1].split())}


def refused(lab, folder, **values):
    """Play the role alone, which has to fail, and return what it prints."""
    done = played(lab, folder, **values)
    assert done.returncode == 2, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def played(lab, folder, *arguments, **values):
    (folder / "docker.yml").write_text(PLAY)
    command = [
        "ansible-playbook",
        "-i",
        str(lab.inventory),
        "docker.yml",
        "-e",
        json.dumps(WANTED | values),
        *arguments,
    ]
    return subprocess.run(command, cwd=folder, env=lab.ansible, capture_output=True, text=True, check=False)


def fault(lab, **values):
    """Deploy with values that are wrong, as an operator would, and return what is said of the host."""
    before, text = lab.on(HOST, TRUST), lab.inventory.read_text()
    yaml = YAML()
    tree = yaml.load(text)
    tree["all"]["children"]["executors"]["hosts"][HOST].update(WANTED | values)
    yaml.dump(tree, lab.inventory)
    try:
        done = lab.run("-i", str(lab.inventory), "deploy", "--limit", HOST, "--json")
    finally:
        lab.inventory.write_text(text)
    (answer,) = [one for one in json.loads(done.stdout)["hosts"] if one["name"] == HOST]
    assert (done.returncode, answer["result"]) == (1, "failed"), answer
    assert lab.on(HOST, TRUST) == before, "nothing half configured"
    return answer["error"]


def test_a_key_with_another_fingerprint_is_refused(host):
    own, docker = variables(host)["nvidia_docker_key_fingerprint"], "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
    said = fault(host, nvidia_docker_key_fingerprint=docker)
    assert f"{repository(host)}/ubuntu/gpg has the fingerprint {own}, not {docker}" in said
    assert "nothing was changed" in said


def test_a_mirror_that_does_not_answer_is_named(host):
    said = fault(host, nvidia_docker_repository=f"{repository(host).replace('/docker', ':81/docker')}")
    assert "the signing key cannot be fetched from http" in said
    assert ":81/docker/linux/ubuntu/gpg" in said
    assert "onnect" in said


def test_an_unsigned_repository_is_refused(host):
    site = "/srv/unsigned/ubuntu"
    host.on("packages", f"mkdir -p {site} && cp -r /srv/docker/linux/ubuntu/. {site} && rm {site}/dists/*/InRelease")
    unsigned = repository(host).replace("/docker/linux", "/unsigned")
    said = fault(host, nvidia_docker_repository=unsigned)
    assert f"the repository {unsigned}/ubuntu noble cannot be used" in said
    assert "not signed" in said


def test_a_forged_repository_is_refused_by_both_apts(host):
    # Ubuntu's apt asks gpgv about signatures, Debian 13's asks sqv.
    real = variables(host)["nvidia_docker_toolkit_repository"]
    forged = real.replace("/libnvidia-container", "/forged")
    host.on("packages", "cp -r /srv/libnvidia-container /srv/forged")
    host.on("packages", "sed -i 's/^Label: .*/Label: forged/' /srv/forged/stable/deb/*/InRelease")
    said = {}
    for url in (real, forged):
        source = {"uri": f"{url}/stable/deb/$(ARCH)", "suite": "/", "key": f"{url}/gpgkey", "name": "lab"}
        trust = {
            "keyring": "/etc/apt/keyrings/lab.gpg",
            "fingerprint": variables(host)["nvidia_docker_key_fingerprint"],
        }
        module = ["-m", "celium.ops.apt_source", "-a", json.dumps(source | trust), "--check"]
        command = ["ansible", "-i", str(host.inventory), f"executor-2:{HOST}", "--become", *module]
        done = subprocess.run(command, env=host.env, capture_output=True, text=True, check=False)
        said[url] = done.stdout + done.stderr
    assert said[real].count("CHANGED") == 2, said[real]
    refused = f'"msg": "the repository {forged}/stable/deb/$(ARCH) / cannot be used'
    assert said[forged].count(refused) == 2, said[forged]


def test_a_virgin_host_can_be_checked(host, tmp_path):
    before = host.on(HOST, TRUST)
    assert play(host, tmp_path, "--check")["changed"] == 3
    assert host.on(HOST, f"{TRUST}; ls /tmp | grep celium; command -v dockerd || :") == before


def test_pools_that_hide_a_route_are_refused(host, tmp_path):
    before = host.on(HOST, TRUST)
    said = refused(host, tmp_path, nvidia_docker_address_pools=[{"base": "172.31.0.0/16", "size": 24}])
    assert f"nvidia_docker_address_pools has 172.31.0.0/16, but this host has a route to {VPC}" in said
    assert host.on(HOST, f"{TRUST}; command -v dockerd || :") == before


def test_packages_come_from_the_signed_repositories(host, tmp_path):
    # What apt cannot even read, and a key that it trusts for everything.
    key, docker = "signed-by=/usr/share/keyrings/other.gpg", f"{repository(host)}/ubuntu noble stable"
    nvidia = "https://nvidia.github.io"
    host.on(
        HOST,
        f"""
        /usr/lib/apt/apt-helper download-file {repository(host)}/ubuntu/gpg /etc/apt/trusted.gpg.d/docker.asc
        printf '# mine\\ndeb [arch=amd64,arm64 {key}] {docker}\\n' >> /etc/apt/sources.list
        echo 'deb {nvidia}/nvidia-docker/ubuntu18.04/$(ARCH) /' > /etc/apt/sources.list.d/nvidia-docker.list
        """,
    )
    assert "Conflicting values set for option Signed-By" in host.on(HOST, "apt-get update 2>&1 || :")
    assert play(host, tmp_path)["changed"] == 5
    policy = host.on(HOST, "apt-cache policy docker-ce nvidia-container-toolkit")
    base = variables(host)["nvidia_docker_toolkit_repository"]
    assert f"*** 5:28.5.2-1~celium.lab 500\n        500 {repository(host)}/ubuntu noble/stable" in policy
    assert f"*** 1.17.8-1 500\n        500 {base}/stable/deb/" in policy
    assert "5:29.1.3-1~celium.lab 500" in policy, "the pin chose the older one of two"
    held = host.on(HOST, "apt-mark showhold").split()
    assert {"docker-ce", "docker-ce-cli", "nvidia-container-toolkit-base"} <= set(held)
    assert host.on(HOST, "apt-get -s upgrade | grep '^Inst docker' || :") == "", "29.1.3 has to wait"
    names = host.on(HOST, "ls /etc/apt/sources.list.d /etc/apt/trusted.gpg.d").split()
    assert not {"docker.list", "nvidia-docker.list", "docker.asc"} & set(names)
    assert sorted(name.split(".")[0] for name in names if name.endswith("~")) == ["docker", "docker", "nvidia-docker"]
    assert host.on(HOST, "tail -n 1 /etc/apt/sources.list") == "# mine"
    assert host.on(HOST, "apt-get -qq update 2>&1") == "", "not a word about the copies either"


def test_docker_knows_the_runtime_beside_those_of_others(host):
    runtimes = json.loads(host.on(HOST, "docker info --format '{{json .Runtimes}}'"))
    assert {"runc", "kata", "nvidia"} <= set(runtimes)
    daemon = json.loads(host.on(HOST, "cat /etc/docker/daemon.json"))
    assert (daemon["debug"], daemon["live-restore"]) == (False, True)
    assert daemon["runtimes"]["kata"] == {"path": "/usr/bin/kata"}
    assert daemon["exec-opts"] == ["native.cgroupdriver=cgroupfs"], "toolkit 1.17 loses cards when systemd reloads"
    assert "simulated" in host.on(HOST, "nvidia-ctk --version")
    assert host.on(HOST, "dpkg --verify nvidia-container-toolkit-base") == "", "its config.toml is as packaged"


def test_its_networks_hide_no_route(host):
    subnet = "docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}'"
    assert host.on(HOST, f"{subnet} bridge") == "10.200.0.0/24"
    assert host.on(HOST, f"docker network create one >/dev/null; {subnet} one") == "10.200.1.0/24"
    starts = host.on(HOST, "journalctl -u docker.service -o cat | grep -c '^Starting docker'")
    assert starts == "1", "not once with networks of its own choice"
    assert "10.200.0.1" in host.on(HOST, "ip -4 address show docker0")
    # A route to what Docker has itself is none that a later run minds.
    assert "10.200.1.0/24" in host.on(HOST, "ip route")


def test_the_key_is_trusted_for_its_repository_only(host):
    host.on(HOST, f"mkdir /tmp/other && echo 'deb {repository(host)}/ubuntu noble stable' > /tmp/other/other.list")
    said = host.on(HOST, "apt-get update -o Dir::Etc::SourceParts=/tmp/other -o Dir::State::Lists=/tmp/other 2>&1 || :")
    assert "is not signed" in said


def test_a_second_run_changes_nothing(host, tmp_path):
    recap = play(host, tmp_path)
    assert (recap["changed"], recap["ok"]) == (0, 6), recap
    # An engine that is there stays, whatever the inventory would give a new host.
    assert play(host, tmp_path, nvidia_docker_source="distribution", nvidia_docker_version="1.2.3")["changed"] == 0


def test_of_the_runtimes_file_only_what_takes_cards_is_changed(host, tmp_path):
    path = "/etc/nvidia-container-runtime/config.toml"
    before = host.on(HOST, f"sed -i 's/^no-cgroups = false/no-cgroups = true # mine/' {path}; cat {path}")
    assert "no-cgroups = true # mine" in before
    assert play(host, tmp_path, "--check")["changed"] == 1
    assert host.on(HOST, f"cat {path}") == before
    assert play(host, tmp_path)["changed"] == 1
    assert host.on(HOST, f"cat {path}") == before.replace("= true # mine", "= false # mine")
    assert host.on(HOST, f"cat {path}.*~") == before, "the backup"
    assert play(host, tmp_path)["changed"] == 0


def test_where_a_driver_is_cards_stay_initialised(host, tmp_path):
    unit = "nvidia-persistenced.service"
    host.on(
        HOST,
        rf"""
        printf '#!/bin/sh\n' > /usr/local/bin/nvidia-smi; chmod 755 /usr/local/bin/nvidia-smi
        printf '[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
            > /etc/systemd/system/{unit}
        """,
    )
    assert play(host, tmp_path, "--check")["changed"] == 1
    assert "inactive" in host.on(HOST, f"systemctl is-active {unit} || :")
    assert play(host, tmp_path)["changed"] == 1
    assert host.on(HOST, f"systemctl is-active {unit}; systemctl is-enabled {unit}").split() == ["active", "enabled"]
    assert play(host, tmp_path)["changed"] == 0
    host.on(HOST, f"systemctl disable -q --now {unit}; rm /usr/local/bin/nvidia-smi /etc/systemd/system/{unit}")


def test_a_runtime_that_someone_set_up_otherwise_stays(host, tmp_path):
    path = "/etc/docker/daemon.json"
    host.on(
        HOST, f'sed -i \'s#"nvidia-container-runtime"#"/usr/bin/nvidia-container-runtime"#\' {path}; touch -d @0 {path}'
    )
    assert play(host, tmp_path)["changed"] == 0


def sysbox(lab):
    """Return what an inventory says of the lab's stand-in of sysbox's package."""
    digest, file = lab.on("packages", "sha256sum /srv/sysbox/*.deb").split()
    url = repository(lab).replace("/docker/linux", file.removeprefix("/srv"))
    return {
        "nvidia_docker_sysbox": True,
        "nvidia_docker_sysbox_package": url,
        "nvidia_docker_sysbox_sha256": digest,
    }


def test_another_package_than_sysbox_is_not_installed(host, tmp_path):
    wanted = sysbox(host)
    said = refused(host, tmp_path, **wanted | {"nvidia_docker_sysbox_sha256": None})
    assert "nvidia_docker_sysbox_sha256 must say" in said
    said = refused(host, tmp_path, **wanted | {"nvidia_docker_sysbox_sha256": "0" * 64})
    assert wanted["nvidia_docker_sysbox_sha256"] in said
    assert host.on(HOST, "command -v sysbox-runc || :") == ""


def test_sysbox_finds_docker_ready_for_it_and_cdi_goes_off(host, tmp_path):
    unit = "nvidia-cdi-refresh.path"
    host.on(
        HOST,
        rf"""
        printf '[Path]\nPathChanged=/nothing\nUnit=docker.service\n[Install]\nWantedBy=multi-user.target\n' \
            > /etc/systemd/system/{unit}
        systemctl daemon-reload; systemctl enable -q --now {unit}
        mkdir -p /etc/cdi; echo 'cdiVersion: 0.5.0' > /etc/cdi/nvidia.yaml
        """,
    )
    wanted, kept = sysbox(host), "ls /etc/cdi; cat /etc/docker/daemon.json; command -v sysbox-runc || :"
    before = host.on(HOST, kept)
    assert play(host, tmp_path, "--check", **wanted)["changed"] > 0
    assert host.on(HOST, kept) == before
    assert play(host, tmp_path, **wanted)["changed"] > 0
    runtimes = json.loads(host.on(HOST, "docker info --format '{{json .Runtimes}}'"))
    assert {"runc", "kata", "nvidia", "sysbox-runc"} <= set(runtimes)
    daemon = json.loads(host.on(HOST, "cat /etc/docker/daemon.json"))
    assert daemon["features"] == {"cdi": False}
    assert daemon["default-address-pools"] == [{"base": "10.200.0.0/16", "size": 24}], "as it was"
    assert host.on(HOST, "ls /etc/cdi") == "nvidia.yaml.celium-ops"
    assert host.on(HOST, f"systemctl is-enabled {unit} || :; systemctl is-active {unit} || :").split() == [
        "disabled",
        "inactive",
    ]
    assert host.on(HOST, "systemctl is-active sysbox; sysbox-runc --version") == "active\nsysbox-runc 0.6.6 (simulated)"
    assert play(host, tmp_path, **wanted)["changed"] == 0
    host.on(HOST, "systemctl stop sysbox; mv /etc/cdi/nvidia.yaml.celium-ops /etc/cdi/nvidia.yaml")
    assert play(host, tmp_path, **wanted)["changed"] == 1
    assert host.on(HOST, "systemctl is-active sysbox; ls /etc/cdi") == "active\nnvidia.yaml.celium-ops"
