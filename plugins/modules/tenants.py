#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Ansible module celium.ops.tenants."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tenants
short_description: Ask a host whether a tenant has it
version_added: 0.1.0
description:
  - Reads Docker's list of containers and returns which of them belong to tenants. A host of which that cannot be told
    counts as rented. A host without Docker is free.
  - With I(project) it fails when Compose would take a tenant's container for a part of that project. Compose goes by
    labels, labels come from images, and tenants choose their images.
author: The celium-ops authors
options:
  project:
    description: The Compose project that is about to be changed.
    type: str
    choices: [miner, executor, validator]
  must_know:
    description:
      - With O(project), whether a Docker that cannot be asked is a failure (code C(tenants-unknown)). Otherwise the
        host counts as rented.
    type: bool
    default: false
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Preflight | Does a tenant have this host?
  celium.ops.tenants:
    project: executor
  register: __executor_tenants
"""

RETURN = r"""
free:
  description: Whether it is certain that no tenant has the host.
  type: bool
  returned: success
rented:
  description: The containers that tenants have now.
  type: list
  elements: str
  returned: success
why:
  description: Why the host is not free, in words; empty when it is.
  type: str
  returned: success
until:
  description: For what a change waits, the containers of tenants or why it cannot be told; empty when the host is free.
  type: str
  returned: success
unwell:
  description: The containers of I(project) that run and are not well, each with its C(name) and C(why).
  type: list
  elements: dict
  returned: success
code:
  description: C(tenant-in-stack) when a tenant's container carries the labels of I(project), or C(tenants-unknown).
  type: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celium.ops.plugins.module_utils import probe, tenancy


def unwell(containers):
    """Return those of our containers that run and are not well, each with what it is; stopped ones are none."""
    found = []
    for one in containers:
        try:
            state = probe.docker("/containers/" + one["Id"] + "/json")["State"]
        except (OSError, ValueError, KeyError, TypeError) as error:  # it may have ended since the list was made
            found.append({"name": tenancy.names(one)[0], "why": f"cannot be looked at ({error}); it is restarted"})
            continue
        health = probe.health(state)
        well = state["Status"] == "running" and health in ("healthy", "starting", "none")
        if not well and state["Status"] not in ("created", *tenancy.ENDED):
            words = state["Status"] if health == "none" else f"{state['Status']}, {health}"
            found.append({"name": tenancy.names(one)[0], "why": f"is {words}; it is restarted"})
    return sorted(found, key=lambda one: one["name"])


def main():
    """Run the module."""
    options = {
        "project": {"type": "str", "choices": list(tenancy.OWN_PROJECTS)},
        "must_know": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    project = module.params["project"]
    try:
        containers = probe.listed() if probe.installed() else []
    except (OSError, ValueError) as error:
        reason = f"Docker cannot be asked whether a tenant has this host: {error}"
        if project and module.params["must_know"]:
            module.fail_json(code="tenants-unknown", msg=f"{reason}. Nothing of the stack {project} was touched")
        module.exit_json(changed=False, free=False, rented=[], why=reason, until=reason, unwell=[])
    found = tenancy.tenancy(containers)
    if claimed := tenancy.claimed(containers, project):
        module.fail_json(
            code="tenant-in-stack",
            msg=f"{', '.join(claimed)} is a tenant's, and carries the labels of the stack {project}: Compose would "
            "treat it as one of ours. Nothing of the stack was touched",
        )
    why, sick = tenancy.why(found), unwell(tenancy.of_stack(containers, project))
    until = why if found["unclear"] else ", ".join(found["rented"])
    module.exit_json(changed=False, free=not why, rented=found["rented"], why=why, until=until, unwell=sick)


if __name__ == "__main__":
    main()
