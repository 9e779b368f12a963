"""What an operator, an upgrade or an accident changes on a host, and what the plan has to say of each."""

from __future__ import annotations

from typing import NamedTuple

WALLET = "/root/.bittensor/wallets/lab-{0}-1"


class Tamper(NamedTuple):
    """What somebody does on a host, and what the plan says of it."""

    host: str
    script: str
    kind: str
    name: str
    why: str = ""


def keys(change):
    """Return what changes keys of daemon.json, the object ``d``."""
    return (
        "python3 -c \"import json; p='/etc/docker/daemon.json'; d=json.load(open(p)); "
        + change
        + "; json.dump(d, open(p, 'w'))\""
    )


def _package(name, version):
    control = f"Package: {name}\\nVersion: {version}\\nArchitecture: all\\nMaintainer: nobody\\nDescription: x\\n"
    return (
        f"rm -rf /root/p; mkdir -p /root/p/DEBIAN; printf '{control}' > /root/p/DEBIAN/control;"
        "dpkg-deb --build /root/p /root/p.deb >/dev/null; dpkg -i /root/p.deb >/dev/null; rm -r /root/p /root/p.deb"
    )


STACK = "/opt/celium/{0}"
E1, E2, M, V = "executor-1", "executor-2", "miner-1", "validator-1"
DAEMON = "/etc/docker/daemon.json"
CLOCK = "chrony.service"
MODULES = "/etc/modules-load.d/celium.conf"
IMAGE = "daturaai/compute-subnet-executor:latest"
FIRST = [
    Tamper(E1, "chmod 755 /opt/celium/executor", "directory", "/opt/celium/executor", "mode is 0755, was 0700"),
    Tamper(E2, "chown operator /opt/celium", "directory", "/opt/celium", "owner is operator"),
    Tamper(M, "chgrp operator /opt/celium/miner", "directory", "/opt/celium/miner", "group is operator"),
    Tamper(V, f"chmod 755 {WALLET.format('validator')}", "directory", WALLET.format("validator"), "mode is 0755"),
    Tamper(M, f"chmod 777 {WALLET.format('miner')}/hotkeys", "directory", "/hotkeys", "mode is 0777"),
    Tamper(E1, "echo '# mine' >> /opt/celium/executor/compose.yml", "file", "executor/compose.yml", "content changed"),
    Tamper(E2, "rm /opt/celium/executor/compose.yml", "file", "executor/compose.yml", "is gone"),
    Tamper(V, "chmod 644 /opt/celium/validator/compose.yml", "file", "validator/compose.yml", "mode is 0644"),
    Tamper(M, "chown operator /opt/celium/miner/compose.yml", "file", "miner/compose.yml", "owner is operator"),
    Tamper(
        E1,
        "sed -i s/^SSH_PORT=.*/SSH_PORT=2222/ /opt/celium/executor/.env",
        "file",
        "executor/.env",
        "SSH_PORT changed",
    ),
    Tamper(E2, "echo EXTRA=1 >> /opt/celium/executor/.env", "file", "executor/.env", "EXTRA changed"),
    Tamper(V, "sed -i /NETUID/d /opt/celium/validator/.env", "file", "validator/.env", "NETUID changed"),
    Tamper(M, "sed -i 's/^# Managed.*/# Mine/' /opt/celium/miner/.env", "file", "miner/.env", "content changed"),
    Tamper(E1, "chmod 640 /opt/celium/executor/db.env", "file", "executor/db.env", "mode is 0640"),
    Tamper(E2, "rm /opt/celium/executor/db.env", "file", "executor/db.env", "is gone"),
    Tamper(M, f"chmod 644 {WALLET.format('miner')}/hotkeys/*", "file", "/hotkeys/", "mode is 0644"),
    Tamper(V, f"for f in {WALLET.format('validator')}/hotkeys/*; do echo >> $f; done", "file", "/hotkeys/", "content"),
    Tamper(M, f"rm {WALLET.format('miner')}/coldkeypub.txt", "file", "coldkeypub.txt", "is gone"),
    Tamper(E2, keys("d['live-restore'] = False"), "file", DAEMON, "live-restore is False, was True"),
    Tamper(E1, keys("del d['log-opts']['max-size']"), "file", DAEMON, "log-opts.max-size is nothing"),
    Tamper(M, keys("d['insecure-registries'] = []"), "file", DAEMON, "insecure-registries is nothing"),
    Tamper(V, f"rm {DAEMON}", "file", DAEMON, "is gone"),
    Tamper(M, "systemctl disable -q docker.service", "unit", "docker.service", "enabled is disabled"),
    Tamper(E1, f"systemctl disable -q {CLOCK}", "unit", CLOCK, "enabled is disabled"),
    Tamper(E2, f"systemctl stop {CLOCK}", "unit", CLOCK, "active is inactive"),
    Tamper(E1, "apt-mark unhold runc >/dev/null", "package", "runc", "held is False"),
    Tamper(E2, _package("nvidia-made-up", "1"), "package", "nvidia-made-up", "is there, and was not"),
    Tamper(E1, f"rm {MODULES}", "file", MODULES, "is gone"),
    Tamper(E2, f"echo tun > {MODULES}", "file", MODULES, "is tun, was tun, loop"),
    Tamper(E1, f"docker rmi {IMAGE} >/dev/null", "image", IMAGE, "is gone"),
    Tamper(
        E2,
        f"docker tag $(docker inspect -f '{{{{.Config.Image}}}}' executor-db-1) {IMAGE}",
        "image",
        IMAGE,
        "image is sha256:",
    ),
    Tamper(E1, "docker stop executor-monitor-1", "container", "executor-monitor-1", "state is exited"),
    Tamper(E2, "docker rm -f executor-executor-1", "container", "executor-executor-1", "is gone"),
    Tamper(V, "docker kill validator-redis-1", "container", "validator-redis-1", "state is exited"),
    Tamper(M, "docker pause miner-miner-1", "container", "miner-miner-1", "state is paused"),
]
SECOND = [
    Tamper(
        E1,
        "docker run -d --name executor-old-1 --label com.docker.compose.project=executor "
        "--label com.docker.compose.service=old --label com.docker.compose.oneoff=False "
        "--label com.docker.compose.config-hash=0 --label org.celium-ops.environment=0 "
        "--entrypoint sleep $(docker inspect -f '{{.Config.Image}}' executor-executor-1) 999",
        "container",
        "executor-old-1",
        "is there, and was not",
    ),
    Tamper(
        E2,
        "cd /opt/celium/executor; cp -p .env /root/env; echo EXTRA=1 >> .env; docker compose up -d --quiet-pull;"
        "cp -p /root/env .env; rm /root/env",
        "container",
        "executor-executor-1",
        "configuration is",
    ),
    Tamper(V, "systemctl stop docker.socket docker.service", "unit", "docker.service", "active is inactive"),
    Tamper(
        E1, "systemctl restart docker.socket", "container", "executor-executor-1", "health is cut off from Docker, was"
    ),
    Tamper(V, f"systemctl disable -q --now {CLOCK}", "unit", CLOCK, "active is inactive"),
    Tamper(M, f"rm {WALLET.format('miner')}/hotkeys/*", "file", "/hotkeys/", "is gone"),
    Tamper(M, "rm -r /opt/celium/miner", "directory", "/opt/celium/miner", "is gone"),
    Tamper(E1, f"touch -d '+2 hours' {DAEMON}", "unit", "docker.service", "configuration is newer than what runs"),
    *(
        Tamper(
            host,
            "docker compose -f /opt/celium/executor/compose.yml run --no-deps --entrypoint true executor",
            "container",
            "executor-executor-run-",
            "is there, and was not",
        )
        for host in (E1, E2)
    ),
    Tamper(E2, _package("nvidia-made-up", "2"), "package", "nvidia-made-up", "version is 2, was 1"),
    Tamper(
        E2,
        "dpkg -r --force-depends $(dpkg -S /usr/libexec/docker/cli-plugins/docker-compose | cut -d: -f1) >/dev/null",
        "file",
        "docker-compose",
        "is gone",
    ),
    *(
        Tamper(
            host,
            "docker rmi -f $(docker inspect -f '{{.Config.Image}}' executor-db-1) >/dev/null",
            "container",
            "executor-db-1",
            "image is another than its name stands for now",
        )
        for host in (E1, E2)  # whose engines keep images in different stores
    ),
]
