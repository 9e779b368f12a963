"""What the lab hands to Docker, ssh and apt, and how it runs programs."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from celium_ops.base.errors import CeliumError
from celium_ops.lab import hosts, machine, memory, registry, rootfs, ssh
from celium_ops.lab.layout import Files, Host, Lab
from celium_ops.lab.memory import Memory
from celium_ops.lab.process import in_parallel, run
from celium_ops.lab.registry import Pushed

LAB = Lab("demo", IPv4Network("198.51.100.0/24"))
HOST = Host(LAB, "executors", 2)


def test_a_host_has_the_rights_systemd_and_docker_need_and_no_more():
    arguments = hosts.create_arguments(HOST, "celium-lab/host-trixie:abc")
    assert arguments[-2:] == ["celium-lab/host-trixie:abc", "/sbin/init"]
    assert "--cap-add=SYS_ADMIN" in arguments
    assert "--security-opt=systempaths=unconfined" in arguments
    for never in ("--privileged", "--cap-add=SYS_TIME", "--publish"):
        assert never not in arguments


def test_every_container_and_volume_has_the_labs_label_and_the_store_of_all_labs_has_none():
    own, store = hosts.create_arguments(HOST, "celium-lab/host-trixie:abc"), registry.create_arguments(LAB, "x")
    assert "--label=org.celium-ops.lab=demo" in own
    assert "--label=org.celium-ops.lab=demo" in store
    mounts = [argument for argument in own if argument.startswith("--mount=type=volume")]
    assert mounts
    assert all("volume-label=org.celium-ops.lab=demo" in mount for mount in mounts)
    assert "--mount=type=volume,source=celium-lab-registry,target=/var/lib/registry" in store


def test_the_registry_is_published_on_the_loopback_address_only():
    arguments = registry.create_arguments(LAB, "image")
    assert arguments[arguments.index("--publish") + 1] == "127.0.0.1::5000"
    assert arguments[arguments.index("--ip") + 1] == "198.51.100.2"


def test_the_identity_has_owners_and_modes_that_sshd_accepts():
    identity = hosts.Identity(ssh.KeyPair("PRIVATE", "PUBLIC"), "0" * 32, "ssh-ed25519 KEY lab")
    data = hosts.identity_archive(identity, 'Acquire::Retries "3";\n', {"celium-lab-1.crt": "PEM"}, 1000, 37)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        entries = {entry.name: (oct(entry.mode), entry.uid, entry.gid) for entry in archive}
    assert entries == {
        "etc/ssh/ssh_host_ed25519_key": ("0o600", 0, 0),
        "etc/ssh/ssh_host_ed25519_key.pub": ("0o644", 0, 0),
        "etc/machine-id": ("0o444", 0, 0),
        "home/operator/.ssh/authorized_keys": ("0o600", 1000, 37),
        "etc/apt/apt.conf.d/99celium-lab-machine": ("0o644", 0, 0),
        "usr/local/share/ca-certificates/celium-lab-1.crt": ("0o644", 0, 0),
    }


def test_known_hosts_keep_one_key_per_address(tmp_path):
    files = Files(tmp_path)
    ssh.remember_key(files, "198.51.100.11", "ssh-ed25519 OLD host")
    ssh.remember_key(files, "198.51.100.12", "ssh-ed25519 OTHER host\n")
    ssh.remember_key(files, "198.51.100.11", "ssh-ed25519 NEW host")
    assert ssh.known_keys(files) == {"198.51.100.11": "ssh-ed25519 NEW", "198.51.100.12": "ssh-ed25519 OTHER"}


@pytest.mark.parametrize(
    ("suite", "architecture", "mirror", "keyring"),
    [
        ("noble", "amd64", "http://archive.ubuntu.com/ubuntu", "ubuntu"),
        ("noble", "arm64", "http://ports.ubuntu.com/ubuntu-ports", "ubuntu"),
        ("trixie", "arm64", "http://deb.debian.org/debian", "debian"),
    ],
)
def test_packages_come_from_the_archive_with_updates_and_security_fixes(suite, architecture, mirror, keyring):
    text = rootfs.source_of(suite, architecture).apt_sources(suite)
    assert f"URIs: {mirror}\nSuites: {suite} {suite}-updates\n" in text
    assert f"Suites: {suite}-security\n" in text
    assert text.count(f"Signed-By: /usr/share/keyrings/{keyring}-archive-keyring.gpg") == 2


def test_an_images_name_follows_from_what_goes_in(monkeypatch):
    monkeypatch.setattr(machine, "architecture", lambda: "amd64")
    tag = rootfs.image_tag("host", "trixie", ["b", "a"])
    assert tag == rootfs.image_tag("host", "trixie", ["a", "b", "a"])
    others = [("noble", ["a", "b"], {}), ("trixie", ["a"], {}), ("trixie", ["a", "b"], {"files": {"/x": "y"}})]
    assert len({tag, *(rootfs.image_tag("host", suite, packages, **more) for suite, packages, more in others)}) == 4


@pytest.mark.parametrize(("failures", "status"), [(0, 0), (1, 0), (2, 0), (3, 1)])
def test_an_archive_that_fails_for_a_moment_is_asked_thrice_each_time_for_an_empty_folder(tmp_path, failures, status):
    programs, root = tmp_path / "bin", tmp_path / "root"
    programs.mkdir()
    for name, body in {
        "sleep": "",
        "debootstrap": f"""
            [ -z "$(ls -A "$2")" ] || exit 2
            touch "$2/half-made"; echo "$@" >>{tmp_path}/tries
            [ "$(wc -l <{tmp_path}/tries)" -gt {failures} ]""",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    script = f'set -eu; PATH={programs}:$PATH; rootfs=$2; {rootfs._BOOTSTRAP}\ntouch "$rootfs/went-on"'
    done = run(["sh", "-c", script, "sh", "noble", str(root)], check=False)
    assert (done.returncode, (root / "went-on").exists()) == (status, status == 0)
    assert (tmp_path / "tries").read_text().splitlines() == [f"noble {root}"] * min(failures + 1, 3)


def test_only_certificates_that_the_distribution_lacks_are_carried(monkeypatch, tmp_path):
    ours, theirs = (f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n" for text in ("OURS", "THEIRS"))
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(theirs + ours)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    machine.own_certificates.cache_clear()
    assert machine.own_certificates(theirs) == {"celium-lab-1.crt": ours}
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("PIP_CERT", raising=False)
    machine.own_certificates.cache_clear()
    assert machine.own_certificates(theirs) == {}


def test_the_memory_survives_a_crash_and_a_broken_file(tmp_path):
    path = tmp_path / "lab.json"
    kept = Memory("198.51.100.0/24", {"miners": 1}, ["miner-1"], {"miners.miner_image": "x"}, {"a/b": Pushed("i", "d")})
    memory.save(path, kept)
    assert memory.load(path) == kept
    path.write_text("{")
    assert memory.load(path) == Memory()


def test_a_failing_program_says_which_and_why():
    with pytest.raises(CeliumError, match=r"sh .* \(exit 3\): no such thing"):
        run(["sh", "-c", "echo no such thing >&2; exit 3"])
    with pytest.raises(CeliumError, match="is not installed"):
        run(["celium-no-such-program"])
    assert run(["sleep", "30"], timeout=0.2, check=False).returncode == 124


def test_one_failing_job_ends_the_others_with_all_they_started(tmp_path: Path):
    started = time.monotonic()
    left = tmp_path / "left"

    def fail():
        time.sleep(0.3)
        raise CeliumError("the reason")

    def wait_in_a_pool():
        in_parallel([lambda: run(["sh", "-c", f"sleep 60; touch {left}"]), lambda: run(["sleep", "30"])])

    with pytest.raises(CeliumError, match="the reason"):
        in_parallel([wait_in_a_pool, fail])
    assert time.monotonic() - started < 20
    assert run(["pgrep", "-f", str(left)], check=False).returncode == 1, "none of them runs on"
    assert run(["true"]).returncode == 0, "and programs run again afterwards"


def test_jobs_run_at_once_and_answer_in_order():
    barrier = threading.Barrier(3, timeout=5)

    def job(number):
        barrier.wait()
        return number

    assert in_parallel([lambda number=number: job(number) for number in range(3)]) == [0, 1, 2]
