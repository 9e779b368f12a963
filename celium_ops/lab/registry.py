"""The lab's registry: a real one, reached by the hosts on the lab's network and from here on the loopback address."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celium_ops.base.errors import CeliumError
from celium_ops.lab import docker
from celium_ops.lab.layout import Lab
from celium_ops.lab.rootfs import Report

_WAIT_SECONDS = 60
STORE = "celium-lab-registry"
"""The volume that holds what all labs' registries have: an image is compressed once, not for each lab anew."""
_STORAGE = "/var/lib/registry"
_CONFIG = """\
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}
http: {addr: ":5000"}
"""
_ACCEPT = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Pushed:
    """An image in the registry: which local image it was, and the digest it is pulled by."""

    image: str
    digest: str


def ensure(lab: Lab, container: dict[str, Any] | None, image: str, report: Report) -> str:
    """Bring the registry up and return where this machine reaches it: ``127.0.0.1:PORT``.

    Raises:
        CeliumError: it does not answer.
    """
    name = lab.registry_container
    state = container["State"]["Status"] if container else "absent"
    if state in {"dead", "removing"}:
        docker.docker("rm", "--force", name)
        state = "absent"
    if state == "absent":
        report("registry: creating")
        docker.docker("volume", "create", f"--label={docker.LABEL}.store", STORE)
        docker.docker(*create_arguments(lab, image))
    if state == "paused":
        docker.docker("unpause", name)
    elif state != "running":
        docker.docker("start", name)
    return _wait(name)


def create_arguments(lab: Lab, image: str) -> list[str]:
    """Return the ``docker`` arguments that create the registry.

    It is published on the loopback address only, on a port that Docker chooses: any Docker engine pushes there
    without TLS, so the machine's daemon needs no change.
    """
    name = lab.registry_container
    script = 'printf "%s" "$1" > /tmp/registry.yml && exec docker-registry serve /tmp/registry.yml'
    return [
        *("create", "--name", name, "--hostname", "registry"),
        *("--network", lab.network, "--ip", lab.registry_ip, "--publish", "127.0.0.1::5000"),
        *docker.labels(lab.name),
        f"--mount=type=volume,source={STORE},target={_STORAGE}",
        *(image, "sh", "-c", script, "registry", _CONFIG % _STORAGE),
    ]


def push(address: str, images: Mapping[str, str], known: Mapping[str, Pushed], report: Report) -> dict[str, Pushed]:
    """Bring local images into the registry and return what is there now, by name.

    Args:
        address: where this machine reaches the registry.
        images: local tag by the name, with a tag, in the registry.
        known: what was pushed before; the same image with a digest that the registry still has is not pushed again.
        report: told what is pushed.
    """
    pushed = {}
    for name, tag in images.items():
        image = docker.image_id(tag)
        if image is None:
            raise CeliumError(f"there is no local image {tag} for {name}")
        before = known.get(name)
        if before and before.image == image and _has(address, name, before.digest):
            pushed[name] = before
        else:
            report(f"registry: pushing {name}")
            pushed[name] = Pushed(image, _push(address, name, tag))
    return pushed


def _push(address: str, name: str, tag: str) -> str:
    target = f"{address}/{name}"
    docker.docker("tag", tag, target)
    try:
        said = docker.text("push", target)
    finally:
        docker.docker("image", "rm", target, check=False)
    found = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
    if not found:
        raise CeliumError(f"docker pushed {name} but did not say its digest: {said[-200:]}")
    return found[1]


def _has(address: str, name: str, digest: str) -> bool:
    request = urllib.request.Request(
        f"http://{address}/v2/{name.partition(':')[0]}/manifests/{digest}", method="HEAD", headers={"Accept": _ACCEPT}
    )
    return _status(request) == 200


def answers(address: str) -> bool:
    """Tell whether a registry answers there."""
    return _status(urllib.request.Request(f"http://{address}/v2/")) == 200


def _status(request: urllib.request.Request) -> int:
    # The machine's proxy, if it has one, is not for the loopback address and the lab's network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _wait(name: str) -> str:
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        address = docker.docker("port", name, "5000/tcp", check=False).stdout.decode().strip()
        if address and answers(address):
            return address
        time.sleep(0.2)
    said = docker.docker("logs", "--tail", "5", name, check=False)
    raise CeliumError(
        f"the registry did not answer within {_WAIT_SECONDS} s: {(said.stderr or said.stdout).decode().strip()}",
        remedy=f"look with `docker logs {name}`; `docker rm -f {name}` and `celium-ops lab up` make it anew",
    )
