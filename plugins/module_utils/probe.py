# SPDX-License-Identifier: MIT
"""What runs on a host, asked in one go: our containers, the rentals of an executor, the registry of a miner.

It only reads, and needs nothing but Python 3.8 and its standard library, because it has two users: our Ansible modules
import it, and the command line feeds its source to ``python3`` on the host.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import shutil
import socket
import subprocess

try:
    from ansible_collections.celium.ops.plugins.module_utils import tenancy
except ImportError:  # the command line sends it along under this name
    import tenancy

ENGINE = "/var/run/docker.sock"
MINER_DATABASE = "miner-db-1"
ENVIRONMENTS = {"db": "db.env", "redis": None}
"""The environment file of each service that does not read ``.env``, as the compose templates have it."""
ONCE = "com.docker.compose.oneoff"
"""The label that says whether ``docker compose run`` made a container."""
_SQL_ERROR = 3
"""The exit code of psql for an error in a script; it has others for trouble on the way to the database."""
# The column of the price is there since 2025-12; a NaN in it becomes a text.
REGISTRY_SQL = """
select coalesce(json_agg(json_build_object(
    'uuid', uuid, 'address', address, 'port', port, 'validator', validator,
    'price', to_jsonb(executor)->'price_per_gpu') order by address, port), '[]')
from executor
"""


CONTAINERS = "/containers/json?all=1"
"""What Docker is asked for to know all containers, in every state and of every origin."""


def docker(path, timeout=10):
    """Return the engine's answer to GET ``path``; raises OSError when there is no engine, ValueError on an error.

    HTTP/1.0, whose answers end with the connection: to load ``http.client`` takes longer than all else that a look at a
    host does in Python.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(ENGINE)
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            head, end, body = stream.read().partition(b"\r\n\r\n")
    if not end:
        raise ConnectionResetError("Docker ended the connection without an answer")
    if head.split()[1] != b"200":
        raise ValueError(json.loads(body).get("message") or head.partition(b"\r\n")[0].decode())
    try:
        return json.loads(body)
    except ValueError:
        raise ConnectionResetError("Docker ended the connection before its answer did") from None


def environments(stack):
    """Return the SHA-1 digest of each environment file in the folder of a stack, by file name."""
    return {
        path.name: hashlib.sha1(path.read_bytes()).hexdigest()  # noqa: S324 - what Ansible calls a checksum
        for path in sorted(pathlib.Path(stack).glob("*.env"))
    }


def _digest(image, details):
    """Return the digest a registry knows an image by; null for one that came from no registry."""
    if "@" in image:
        return image.partition("@")[2]
    known = docker("/images/" + details["Image"] + "/json").get("RepoDigests") or []
    return next((entry.partition("@")[2] for entry in sorted(known)), None)


def health(state):
    """Return how a container is: what its check says, or that it cannot reach Docker, though it was given its socket.

    It has the socket of when it started. ``docker.socket`` makes another one when it is started anew, by an upgrade of
    Docker for example, which containers outlive; an executor without Docker fails its validators, and looks well.
    """
    try:
        mounts = pathlib.Path(f"/proc/{state['Pid']}/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        mounts = ""
    if "/docker.sock//deleted " in mounts:
        return "cut off from Docker"
    return state.get("Health", {}).get("Status", "none")


def complaint(state):
    """Return what the health check of an unhealthy container said of its GPUs, bounded and printable; else null.

    Strangers have a shell in an executor's container, so only the words of our own check are passed on.
    """
    log = state.get("Health", {}).get("Log") or [{}]
    if state.get("Status") != "running" or state.get("Health", {}).get("Status") != "unhealthy":
        return None
    said = re.search(r"^NVML: [ -~]{1,150}", str(log[-1].get("Output", ""))[:4096], re.MULTILINE)
    return said.group() if said else None


def containers(files):
    """Return the containers of our stacks, running or not, sorted by name; ``files`` are their environments.

    What somebody runs once beside them (``docker compose run``) is none of them.
    """
    found = []
    for entry in listed():
        labels, ours = tenancy.labels(entry), tenancy.own(entry)
        if ours is None or labels.get(ONCE) == "True":
            continue
        service = ours[1]
        details = docker("/containers/" + entry["Id"] + "/json")
        state = details["State"]
        found.append(
            {
                "name": details["Name"].lstrip("/"),
                "service": service,
                "image": details["Config"]["Image"],
                "digest": _digest(details["Config"]["Image"], details),
                "state": state["Status"],
                "health": health(state),
                "complaint": complaint(state),
                "started_at": state["StartedAt"],
                "outdated": labels.get(tenancy.ENVIRONMENT) != files.get(ENVIRONMENTS.get(service, ".env")),
            }
        )
    return sorted(found, key=lambda container: container["name"])


def listed():
    """Return Docker's list of all containers; raises OSError when it cannot be had, ValueError when it is none."""
    containers = docker(CONTAINERS)
    if not isinstance(containers, list):
        raise ValueError("Docker's list of containers is no list")
    return containers


def installed():
    """Return whether Docker is on this host, running or not: where it is not, no container can be."""
    return pathlib.Path(ENGINE).exists() or any(map(shutil.which, ("dockerd", "docker")))


def rentals():
    """Return the names of the containers that tenants have now.

    Raises OSError or ValueError where that cannot be told: then the host counts as rented.
    """
    found = tenancy.tenancy(listed() if installed() else [])
    if found["unclear"]:
        raise ValueError(tenancy.why(found))
    return found["rented"]


def psql(script, timeout=20):
    """Feed a script to psql at the miner's database and return what it prints; it stops at the first error.

    Raises OSError with the reason when it did not get through to its end.
    """
    # The shell is the container's own: user and database name are known inside it only.
    program = 'exec psql -v ON_ERROR_STOP=1 -qAtX -U "$POSTGRES_USER" -d "$POSTGRES_DB"'
    try:
        done = subprocess.run(
            ["docker", "exec", "-i", MINER_DATABASE, "sh", "-c", program],
            input=script,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"the database of the miner did not answer in {timeout} s") from None
    if done.returncode:
        what = "refused" if done.returncode == _SQL_ERROR else "does not answer"
        raise OSError(f"the database of the miner {what}: {done.stderr.strip() or 'no message'}")
    return done.stdout


def registry():
    """Return the rows of the miner's registry; raises OSError with the reason when they cannot be read."""
    return json.loads(psql(REGISTRY_SQL))


def probe(role, stack):
    """Return what this host shows; what could not be read is null, with the reason in ``errors``."""
    seen = {"environments": None, "containers": None, "rentals": None, "registry": None, "errors": []}
    of_role = {"executor": [("rentals", rentals)], "miner": [("registry", registry)]}
    parts = [
        ("environments", lambda: environments(stack)),
        ("containers", lambda: containers(seen["environments"] or {})),
        *of_role.get(role, []),
    ]
    for name, read in parts:
        try:
            seen[name] = read()
        except Exception as error:  # what cannot be read shall not hide the rest
            seen["errors"].append(str(error) if isinstance(error, (OSError, ValueError)) else repr(error))
    return seen
