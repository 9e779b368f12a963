#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Ansible module celium.ops.miner_registry."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: miner_registry
short_description: Register executors at a miner
version_added: 0.1.0
description:
  - Adds executors to the registry of the miner that runs on this host.
  - Switches the validator of those that serve another.
  - Changes go through upstream's own command line in the miner's container. Its exit code says success even when it
    failed, so the outcome is read back from the miner's database, and only that counts.
  - Executors that are not named are left alone.
author: The celium-ops authors
options:
  executors:
    description: The executors to register.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Its name in the inventory., type: str, required: true}
      miner: {description: The inventory name of its miner., type: str}
      address: {description: Its address., type: str, required: true}
      port: {description: The port of its API., type: int, required: true}
      validator: {description: Hotkey of the validator it serves; dialect celium needs one., type: str}
      price: {description: USD per GPU and hour; wanted by dialect lium., type: float}
  dialect:
    description: The dialect of upstream's command line.
    type: str
    choices: [celium, lium]
    default: celium
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Register one executor
  celium.ops.miner_registry:
    executors:
      - name: gpu-1
        address: 192.0.2.10
        port: 8001
        validator: 5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p
"""

RETURN = r"""
executors:
  description: Each executor, whether it is registered, the validator read back, and what went wrong, if anything.
  returned: always
  type: list
  elements: dict
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celium.ops.plugins.module_utils import probe

CONTAINER = "miner-miner-1"
TIMEOUT = 60  # seconds; upstream's command line needs 2 to 3, and in dialect lium up to 12 for a dead executor


def command(action, executor, dialect):
    """Return the arguments and the answers on stdin for one change; pure."""
    options = ["--address", executor["address"], "--port", str(executor["port"])]
    if executor.get("validator"):
        options += ["--validator", executor["validator"]]
    if action == "add-executor" and dialect == "lium":
        options += ["--price", str(executor["price"])]
    answers = "y\n" if action == "switch-validator" else ""
    return ["docker", "exec", "-i", CONTAINER, "pdm", "run", "/root/app/src/cli.py", action, *options], answers


def planned(executor, row, dialect):
    """Return the change an executor needs: an action, null when it is fine, or ValueError when it cannot be done."""
    if not executor.get("validator") and dialect == "celium":
        raise ValueError("no executor_validator is given, so there is nobody to register it for")
    if row is None:
        if dialect == "lium" and executor.get("price") is None:
            raise ValueError("no executor_price is given, and upstream's command line wants one")
        return "add-executor"
    wanted = executor.get("validator") or row["validator"]
    return None if row["validator"] == wanted else "switch-validator"


def change(action, executor, dialect):
    """Run upstream's command line; return the last line it said, which may explain a failure."""
    arguments, answers = command(action, executor, dialect)
    try:
        done = subprocess.run(arguments, input=answers, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"upstream's {action} did not end in {TIMEOUT} s"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"upstream's {action} said nothing (exit {done.returncode})"


def endpoint(executor):
    """Return (address, port), which the miner's database keeps unique."""
    return executor["address"], executor["port"]


def by_endpoint(rows):
    """Return the rows of the registry by endpoint."""
    return {endpoint(row): row for row in rows}


def register(module):
    """Bring the registry in step; return the rows from before and the result of each executor."""
    dialect = module.params["dialect"]
    before = by_endpoint(read_rows(module))
    results = []
    for executor in module.params["executors"]:
        result = {**executor, "action": None, "error": None}
        try:
            result["action"] = planned(executor, before.get(endpoint(executor)), dialect)
        except ValueError as error:
            result["error"] = str(error)
        results.append(result)
    after = before
    pending = [result for result in results if result["action"]]
    if pending and not module.check_mode:
        for result in pending:
            result["error"] = change(result["action"], result, dialect)
        after = by_endpoint(read_rows(module))
        for result in pending:
            read_back(result, after)
    for result in results:
        result["registered"] = endpoint(result) in after
    return before, results


def read_back(result, rows):
    """Let the database decide on a change: a row as wanted clears whatever the command line said."""
    row = rows.get(endpoint(result))
    if row and row["validator"] == (result["validator"] or row["validator"]):
        result["error"] = None
    elif row:
        result["error"] = f"it is still registered for {row['validator']}; upstream said: {result['error']}"
    else:
        result["error"] = f"it is not in the registry; upstream said: {result['error']}"


def read_rows(module):
    """Return the registry; a miner that is not there yet has none in check mode."""
    try:
        return probe.registry()
    except OSError as error:
        if module.check_mode:
            return []
        module.fail_json(msg=f"the registry cannot be read: {error}")


def main():
    """Run the module."""
    executor = {
        "name": {"type": "str", "required": True},
        "miner": {"type": "str"},
        "address": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "validator": {"type": "str"},
        "price": {"type": "float"},
    }
    module = AnsibleModule(
        argument_spec={
            "executors": {"type": "list", "elements": "dict", "required": True, "options": executor},
            "dialect": {"type": "str", "choices": ["celium", "lium"], "default": "celium"},
        },
        supports_check_mode=True,
    )
    if not module.params["executors"]:
        module.exit_json(changed=False, executors=[])
    before, results = register(module)
    changes = [result for result in results if result["action"] and not result["error"]]
    outcome = {"changed": bool(changes), "executors": results, "diff": difference(before, changes)}
    failed = [result for result in results if result["error"]]
    if failed and not module.check_mode:
        reasons = "; ".join(f"{result['name']}: {result['error']}" for result in failed)
        module.fail_json(msg=f"not registered as wanted: {reasons}", **outcome)
    module.exit_json(**outcome)


def difference(before, changes):
    """Return the registry before and after, one executor a line."""
    lines = {"before": "", "after": ""}
    for result in changes:
        row, place = before.get(endpoint(result)), "{}:{}".format(*endpoint(result))
        lines["before"] += f"{place} -> {row['validator']}\n" if row else ""
        lines["after"] += f"{place} -> {result['validator'] or 'upstream default'}\n"
    return lines


if __name__ == "__main__":
    main()
