#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Ansible module celium.ops.record."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: record
short_description: Record on a host what our roles manage there
version_added: 0.1.0
description:
  - Looks at what the roles manage and writes down what it is like, for root only, in /var/lib/celium-ops/record.json.
  - C(celium-ops plan) compares a host with its record later. A record is a note, so writing one is no change.
author: The celium-ops authors
options:
  manages:
    description: What the roles manage; each entry has a C(kind) and a C(name), and what its kind wants beside.
    type: list
    elements: dict
    required: true
  run:
    description: The run that brought it about; the command line looks for its own.
    type: str
  waits:
    description:
      - The changes that were left for the end of a rental, each with its C(kind), C(name) and C(why), and as C(until)
        whose rental it is. What they name need not be as it is wanted yet.
    type: list
    elements: dict
    default: []
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Record | What was brought about
  celium.ops.record:
    manages:
      - {kind: directory, name: /opt/celium}
      - {kind: unit, name: docker.service}
"""

RETURN = r"""
waits:
  description: The changes that wait for the end of a rental, as given.
  type: list
  elements: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celium.ops.plugins.module_utils import managed


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "manages": {"type": "list", "elements": "dict", "required": True},
            "run": {"type": "str"},
            "waits": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        if not module.check_mode:
            managed.write(managed.make(module.params["manages"], module.params["run"], module.params["waits"]))
    except (OSError, ValueError) as error:
        module.fail_json(msg="what is here cannot be recorded: " + str(error))
    module.exit_json(changed=False, waits=module.params["waits"])


if __name__ == "__main__":
    main()
