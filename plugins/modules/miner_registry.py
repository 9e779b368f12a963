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
  - Switches the validator of those that serve another. In dialect lium all executors of a miner serve one.
  - Changes the price of those that have another, in dialect lium; in dialect celium the executor keeps it.
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
      validator: {description: Hotkey of the validator it serves; only dialect celium has it, and needs it., type: str}
      price: {description: USD per GPU and hour; only dialect lium has it, and needs it for a new one., type: float}
  default_validator:
    description: Hotkey of the one validator of dialect lium; without it upstream's own default, and rows keep theirs.
    type: str
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
  description: Each executor, what was done for it, whether it is registered, and what went wrong, if anything.
  returned: always
  type: list
  elements: dict
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celium.ops.plugins.module_utils import probe

CONTAINER = "miner-miner-1"
TIMEOUT = 60  # seconds; upstream's command line needs 2 to 3, and in dialect lium up to 12 for a dead executor


def of_dialect(executor, dialect, default_validator):
    """Return an executor with what a miner of this dialect keeps of it: a validator of its own, or a price."""
    return {**executor, **({"price": None} if dialect == "celium" else {"validator": default_validator})}


def command(action, executor, dialect):
    """Return the arguments and the answers on stdin for one change; pure."""
    options = ["--address", executor["address"], "--port", str(executor["port"])]
    # In dialect lium a new row gets the miner's default validator.
    if action == "switch-validator" or dialect == "celium":
        options += ["--validator", executor["validator"]]
    else:
        options += ["--price", str(executor["price"])]
    answers = "y\n" if action == "switch-validator" else ""
    return ["docker", "exec", "-i", CONTAINER, "pdm", "run", "/root/app/src/cli.py", action, *options], answers


def planned(executor, row, dialect):
    """Return the changes an executor needs, none when it is fine, or ValueError when it cannot be done.

    A row is changed, never removed and added again: its uuid is the key of the collateral.
    """
    if not executor["validator"] and dialect == "celium":
        raise ValueError("no executor_validator is given, so there is nobody to register it for")
    if row is None:
        if dialect == "lium" and executor["price"] is None:
            raise ValueError("no executor_price is given, and upstream's command line wants one")
        return ["add-executor"]
    changes = []
    if executor["validator"] and executor["validator"] != row["validator"]:
        changes.append("switch-validator")
    if executor["price"] not in (None, row["price"]):
        changes.append("update-executor-price")
    return changes


def change(action, executor, dialect):
    """Run upstream's command line; return what it said that may explain a failure."""
    arguments, answers = command(action, executor, dialect)
    try:
        done = subprocess.run(arguments, input=answers, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"upstream's {action} did not end in {TIMEOUT} s"
    return explanation(done.stderr) or f"upstream's {action} said nothing (exit {done.returncode})"


def explanation(said):
    """Return the errors in what upstream's command line logged, else its last line; pure."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.split(":", 2)[-1].strip() for line in lines if line.startswith("ERROR:")]
    # Upstream of 2025-12 tries the executor before it adds it, and does not say so when the login failed.
    tested = "Testing executor connectivity" in said
    if tested and "Connectivity test passed" not in said and "Failed to send SSH key" not in said:
        errors.append("the executor's API answers the miner, but its SSH port does not let it in (executor_ssh_port)")
    return "; ".join(errors) or (lines[-1] if lines else "")


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
        result = of_dialect(executor, dialect, module.params["default_validator"])
        result.update(actions=[], error=None)
        try:
            result["actions"] = planned(result, before.get(endpoint(result)), dialect)
        except ValueError as error:
            result["error"] = str(error)
        results.append(result)
    after = before
    pending = [result for result in results if result["actions"]]
    if pending and not module.check_mode:
        for result in pending:
            result["error"] = "; ".join(change(action, result, dialect) for action in result["actions"])
        after = by_endpoint(read_rows(module))
        for result in pending:
            read_back(result, after, dialect)
    for result in results:
        result["registered"] = endpoint(result) in after
    return before, results


def read_back(result, rows, dialect):
    """Let the database decide on a change: a row as wanted clears whatever the command line said."""
    row = rows.get(endpoint(result))
    if row and not planned(result, row, dialect):
        result["error"] = None
    elif row:
        result["error"] = f"it is still registered {shown(row)}; upstream said: {result['error']}"
    else:
        result["error"] = f"it is not in the registry; upstream said: {result['error']}"


def shown(row):
    """Return what a row says of its executor, for people."""
    price = "" if row["price"] is None else f" at {row['price']} USD per GPU and hour"
    return f"for {row['validator'] or 'the default validator'}{price}"


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
            "default_validator": {"type": "str"},
            "dialect": {"type": "str", "choices": ["celium", "lium"], "default": "celium"},
        },
        supports_check_mode=True,
    )
    if not module.params["executors"]:
        module.exit_json(changed=False, executors=[])
    before, results = register(module)
    changes = [result for result in results if result["actions"] and not result["error"]]
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
        lines["before"] += f"{place} {shown(row)}\n" if row else ""
        given = {key: result[key] for key in ("validator", "price") if result[key]}
        lines["after"] += f"{place} {shown({**(row or result), **given})}\n"
    return lines


if __name__ == "__main__":
    main()
