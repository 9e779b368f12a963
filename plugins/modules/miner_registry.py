#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Ansible module celium.ops.miner_registry."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: miner_registry
short_description: Bring a miner's registry of executors in step
version_added: 0.1.0
description:
  - Adds executors to the registry of the miner that runs on this host, gives them the validator that they are to serve
    (in dialect lium all executors of a miner serve one) and, in dialect lium, their price, and removes rows.
  - Additions and removals go through upstream's own command line in the miner's container, each whole. Its exit code
    says success even when it failed, so the outcome is read back from the miner's database, and only that counts.
  - All switches and prices of one call are written in one database transaction. They are all made or, when any row has
    changed since this module read the registry, none. A row keeps its uuid, since its collateral hangs on it.
  - What was asked for is checked before anything is touched. Then executors are added, then switched and priced,
    then rows are removed, so that whenever this is interrupted no validator has lost an executor before it has its
    new one. Running it again finishes the job.
  - What fails stops what follows, since the plan may rest on it. In dialect lium, where all serve one validator, an
    executor that could not be added stops nothing.
  - Rows that are not named are left alone, and returned.
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
      validator:
        description: Hotkey of the validator it serves; only dialect celium has it. Without it, a row keeps the one it
          has, and a new executor is not registered.
        type: str
      price: {description: USD per GPU and hour; only dialect lium has it, and needs it for a new one., type: float}
      rented:
        description: The containers of tenants that run there. While there are some, a row keeps its validator; to want
          another is an error then.
        type: list
        elements: str
        default: []
      expected:
        description: Hotkey for which it was registered when this was planned, or V(unregistered). When it is not so any
          more, and not as wanted either, nothing at all is changed. Left out, whatever there is will do.
        type: str
  absent:
    description: Rows to remove. One that is not there is fine.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The name in the inventory of what it belonged to., type: str}
      miner: {description: The inventory name of its miner., type: str}
      address: {description: Its address., type: str, required: true}
      port: {description: Its port., type: int, required: true}
  even_if_collateral_unknown:
    description: In dialect celium, remove a row even when nobody can tell whether the contract holds collateral for it;
      such collateral would be lost. One that is known to have some is never removed. In dialect lium upstream decides.
    type: bool
    default: false
  add:
    description: Add the executors that have no row. Without it they are left out, and said to be C(missing); nothing is
      removed then while one is, since a row may be the place that it had before.
    type: bool
    default: true
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
- name: Register one executor, remove another
  celium.ops.miner_registry:
    executors:
      - name: gpu-1
        address: 192.0.2.10
        port: 8001
        validator: 5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p
    absent:
      - address: 192.0.2.11
        port: 8001
"""

RETURN = r"""
executors:
  description:
    - Each executor with its C(actions) (add, switch, price), whether it is C(registered), the C(error) if any, and
      C(unassigned), which is true when it is not registered since it has no validator, C(missing), which is true
      when it is not since O(add) is false, or C(refused), which is true when it is registered for a validator that a
      miner of dialect lium does not accept.
    - In check mode the actions are those that would be done.
  returned: when the registry could be read
  type: list
  elements: dict
absent:
  description: Each row to remove with its C(actions) (remove), whether it is C(registered) still, whether that is
    C(postponed) until nothing is missing, and the C(error).
  returned: when the registry could be read
  type: list
  elements: dict
others:
  description: The rows that nobody named, each with C(address), C(port) and C(validator).
  returned: when the registry could be read
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celium.ops.plugins.module_utils import probe, registry_plan, registry_transaction, upstream_cli
from ansible_collections.celium.ops.plugins.module_utils.registry_plan import by_endpoint, endpoint

CHANGED = "not done, since the registry changed while this ran; plan again"
NOT_ADDED = "not done, since another executor could not be added and the plan may rest on it"


def asked(params):
    """Return the executors and the absent rows that were asked for, with room for what becomes of them."""
    room = {"actions": [], "error": None}
    dialect, default_validator = params["dialect"], params["default_validator"]
    executors = [registry_plan.of_dialect(one, dialect, default_validator) for one in params["executors"]]
    return (
        [{**one, **room, "missing": False} for one in executors],
        [{**one, **room, "postponed": False} for one in params["absent"]],
    )


def draw_up(executors, absent, rows, params):
    """Give everyone its actions, or the error that stands in the way."""
    for executor in executors:
        try:
            executor["actions"] = registry_plan.planned(executor, rows.get(endpoint(executor)), params["dialect"])
        except ValueError as error:
            executor["error"] = str(error)
        if "add" in executor["actions"] and not params["add"]:
            executor["actions"], executor["missing"] = [], True
    # A row may be the old place of one that is missing: it goes when that has its new one.
    wait = any(executor["missing"] for executor in executors)
    for entry in absent:
        there = endpoint(entry) in rows
        entry["actions"], entry["postponed"] = ["remove"] if there and not wait else [], there and wait


def add(executors, rows, dialect):
    """Add executors; return all rows, and why the rest may not be done now, if so."""
    for executor in executors:
        executor["error"] = f"upstream said: {upstream_cli.explanation(upstream_cli.call('add', executor, dialect))}"
    now = probe.registry()
    new = {endpoint(executor) for executor in executors}
    if [row for row in now if endpoint(row) not in new] != rows:
        return now, CHANGED
    if dialect == "celium" and new - by_endpoint(now).keys():
        return now, NOT_ADDED
    return now, None


def switch(executors, rows):
    """Write validators and prices; return why they were not written, if so."""
    changes = registry_plan.changes(executors, by_endpoint(rows))
    try:
        return None if registry_transaction.write(changes, rows) else CHANGED
    except OSError as error:
        return str(error)


def held(entry, row, even_if_unknown):
    """Return why a row of dialect celium has to stay, None when it may go: upstream of 2025-08 does not look."""
    said = upstream_cli.call("collateral", entry, "celium")
    amount = upstream_cli.collateral(said, row["uuid"])
    if amount:
        return f"it stays, since the contract holds {amount} TAO of collateral for it; reclaim them first"
    if amount is None and not even_if_unknown:
        return (
            f"it stays, since its collateral cannot be read (upstream said: {upstream_cli.explanation(said)}); "
            "repeat it when the chain's EVM endpoint answers (miner_evm_rpc_url), or set "
            "miner_even_if_collateral_unknown when there is none"
        )
    return None


def remove(entry, row, params, check_mode):
    """Remove a row, unless something holds it; return what that is, or what upstream said."""
    reason = held(entry, row, params["even_if_collateral_unknown"]) if params["dialect"] == "celium" else None
    if reason or check_mode:
        return reason
    said = upstream_cli.call("remove", entry, params["dialect"])
    return f"it is still registered; upstream said: {upstream_cli.explanation(said)}"


def apply(executors, absent, rows, params):
    """Make the changes, and let the database decide on them; return the rows afterwards.

    Additions come first and removals last, and what fails stops what follows, so that at no point a validator has lost
    an executor before another has taken its place.
    """
    dialect, reason = params["dialect"], None
    adding = [executor for executor in executors if "add" in executor["actions"]]
    changing = [executor for executor in executors if executor["actions"] and "add" not in executor["actions"]]
    if adding:
        rows, reason = add(adding, rows, dialect)
    if changing:
        reason = reason or switch(changing, rows)
        for executor in changing:
            executor["error"] = reason
    for entry in removing(absent):
        entry["error"] = reason or remove(entry, by_endpoint(rows)[endpoint(entry)], params, check_mode=False)
    after = by_endpoint(probe.registry())
    for executor in adding + changing:
        executor["error"] = registry_plan.read_back(executor, after, dialect)
    for entry in removing(absent):
        entry["error"] = entry["error"] if endpoint(entry) in after else None
    return after


def removing(absent):
    """Return the rows that have to be removed."""
    return [entry for entry in absent if entry["actions"]]


def read_rows(module):
    """Return the registry; a miner that is not there yet has none in check mode."""
    try:
        return probe.registry()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) or "No such container" in str(error)
        if module.check_mode and missing:
            return []
        module.fail_json(msg=f"the registry cannot be read, so nothing was changed: {error}")


def bring_in_step(module):
    """Bring the registry in step; return the rows before and after, the executors and the absent rows."""
    executors, absent = asked(module.params)
    if wrong := registry_plan.flaws(executors, absent):
        module.fail_json(msg=f"nothing was changed, since this cannot be registered: {registry_plan.several(wrong)}")
    rows = read_rows(module)
    before = by_endpoint(rows)
    if surprises := registry_plan.surprises(executors, before):
        module.fail_json(
            msg=f"the registry changed since this was planned, so nothing was changed; plan again: "
            f"{registry_plan.several(surprises)}"
        )
    draw_up(executors, absent, before, module.params)
    if not module.check_mode and any(result["actions"] for result in executors + absent):
        try:
            return before, apply(executors, absent, rows, module.params), executors, absent
        except OSError as error:
            module.fail_json(msg=f"the registry cannot be read any more, run this again: {error}", changed=True)
    for entry in removing(absent):
        entry["error"] = remove(entry, before[endpoint(entry)], module.params, check_mode=True)
    return before, before, executors, absent


def main():
    """Run the module."""
    row = {
        "name": {"type": "str"},
        "miner": {"type": "str"},
        "address": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
    }
    executor = {
        **row,
        "name": {"type": "str", "required": True},
        "validator": {"type": "str"},
        "price": {"type": "float"},
        "rented": {"type": "list", "elements": "str", "default": []},
        "expected": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "executors": {"type": "list", "elements": "dict", "required": True, "options": executor},
            "absent": {"type": "list", "elements": "dict", "default": [], "options": row},
            "even_if_collateral_unknown": {"type": "bool", "default": False},
            "add": {"type": "bool", "default": True},
            "default_validator": {"type": "str"},
            "dialect": {"type": "str", "choices": ["celium", "lium"], "default": "celium"},
        },
        supports_check_mode=True,
    )
    report(module, *bring_in_step(module))


def report(module, before, after, executors, absent):
    """End with what was done, what was not and why, and what else is in the registry."""
    for result in executors + absent:
        result["registered"] = endpoint(result) in after
    for executor in executors:
        executor["refused"] = registry_plan.refused(
            executor, after.get(endpoint(executor)), module.params["dialect"], module.params["default_validator"]
        )
        settled = executor["registered"] or executor["actions"] or executor["error"] or executor["missing"]
        executor["unassigned"] = not settled
    done = [executor for executor in executors if executor["actions"] and not executor["error"]]
    removed = [entry for entry in removing(absent) if not entry["error"]]
    named = {endpoint(result) for result in executors + absent}
    outcome = {
        "changed": bool(done or removed),
        "executors": executors,
        "absent": absent,
        "others": [
            {key: row[key] for key in ("address", "port", "validator")}
            for place, row in after.items()
            if place not in named
        ],
        "diff": registry_plan.difference(before, done, removed),
    }
    if unassigned := [executor["name"] for executor in executors if executor["unassigned"]]:
        module.warn(
            f"not registered, since they have no validator: {', '.join(unassigned)}; "
            "celium-ops deploy or celium-ops assign gives them one"
        )
    if refused := [executor["name"] for executor in executors if executor["refused"]]:
        module.warn(
            "registered for a validator that this miner does not accept, so no validator inspects them: "
            f"{registry_plan.several(refused, ', ')}; "
            "celium-ops assign apply moves them, or set miner_default_validator"
        )
    if failed := [result for result in executors + absent if result["error"]]:
        module.fail_json(msg=f"the registry is not as wanted: {registry_plan.by_reason(failed)}", **outcome)
    module.exit_json(**outcome)


if __name__ == "__main__":
    main()
