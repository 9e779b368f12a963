# SPDX-License-Identifier: MIT
"""Which containers of a host are a tenant's and which are ours: one definition, over Docker's own list of containers.

Tenants choose their images, and labels of an image become labels of its container: a label alone proves nothing. Names
are given by the executor of upstream, which calls the containers of a rental ``container_*`` (2025-08, 2025-12) or
``pod_*`` (2026), and those that keep idle cards busy ``filler_*``.

Pure, and needs nothing but Python 3.8: Ansible modules import it, and the command line sends its source along.
"""

from __future__ import annotations

import re

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ENVIRONMENT = "org.celium-ops.environment"
"""The label of ours: the digest of the environment file that a container was made with."""
WITHOUT_ENVIRONMENT = ("redis",)
"""Services of ours that read no environment file, so that they lack its label."""
OWN_PROJECTS = ("miner", "executor", "validator")
RUNNING = ("created", "running", "paused", "restarting", "removing")
"""States of a container that a tenant has, or is about to get or to lose."""
ENDED = ("exited", "dead")
"""States of a container that holds no more than a tenant's data."""
_RENTAL = re.compile(r"(container|pod)_")
_OURS = re.compile(r"([a-z]+)-([a-z]+)-(?:[0-9]+|run-[0-9a-f]+)\Z")
"""What Compose calls the containers of a service, and those of a single run of it."""


def names(listed):
    """Return the names of a container of Docker's list; none when it shows none that can be read."""
    found = listed.get("Names") if isinstance(listed, dict) else None
    return [name.lstrip("/") for name in found if isinstance(name, str)] if isinstance(found, list) else []


def labels(listed):
    """Return the labels of a container of Docker's list."""
    found = listed.get("Labels") if isinstance(listed, dict) else None
    return found if isinstance(found, dict) else {}


def is_rental(name):
    """Return whether a container of this name is, or was, a tenant's."""
    return _RENTAL.match(name) is not None


def tenancy(containers):
    """Return what Docker's list of containers says of tenants, as sorted names.

    ``rented`` are the containers that tenants have now, ``ended`` those that hold only their data, and ``unclear``
    those of which it cannot be told: with a state that is not known here, or without a name. A host is free only when
    both ``rented`` and ``unclear`` are empty.
    """
    found = {"rented": [], "ended": [], "unclear": []}
    for one in containers:
        state = one.get("State") if isinstance(one, dict) else None
        known = names(one)
        rental = next(filter(is_rental, known), None)
        if rental:
            kind = "rented" if state in RUNNING else "ended" if state in ENDED else "unclear"
            found[kind].append(rental)
        elif not known and state not in ENDED:
            found["unclear"].append("a container without a name")
    return {kind: sorted(some) for kind, some in found.items()}


def why(found):
    """Return why a host is not free, given its ``tenancy``; empty when it is."""
    reasons = [f"it is rented ({', '.join(found['rented'])})"] if found["rented"] else []
    if found["unclear"]:
        reasons.append(f"it cannot be told whether it is rented ({', '.join(found['unclear'])})")
    return "; ".join(reasons)


def own(listed):
    """Return the project and the service of a container that is part of one of our stacks, else null.

    Its name, its Compose project and our own label have to agree.
    """
    marks = labels(listed)
    project, service = marks.get(PROJECT), marks.get(SERVICE)
    if project not in OWN_PROJECTS or not (ENVIRONMENT in marks or service in WITHOUT_ENVIRONMENT):
        return None
    named = filter(None, map(_OURS.match, names(listed)))
    return (project, service) if any(found.groups() == (project, service) for found in named) else None


def of_stack(containers, project):
    """Return the containers of Docker's list that are part of one of our stacks."""
    return [one for one in containers if (own(one) or ("",))[0] == project]


def claimed(containers, project):
    """Return the containers of tenants that Compose would take for a part of a project, by sorted name.

    Compose goes by labels alone: it would restart, replace or remove them with the rest. Without a project there are
    none.
    """
    found = (one for one in containers if project and labels(one).get(PROJECT) == project)
    return sorted(name for one in found for name in names(one) if is_rental(name))
