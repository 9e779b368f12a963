#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Ansible module celium.ops.json_merge."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: json_merge
short_description: Set keys of a JSON file and leave the others alone
version_added: 0.1.0
description:
  - Merges O(values) into a JSON file. Objects are merged key by key, everything else is replaced.
  - Keys that others set in the file stay as they are. The file is replaced atomically, and only when it changes.
author: The celium-ops authors
options:
  path:
    description:
      - The file; it is made when missing, and so is its folder.
      - An empty folder in its place gives way; Docker makes one where it is to mount a file that is not there.
    type: path
    required: true
  values:
    description: The keys to set.
    type: dict
    required: true
  defaults:
    description: Keys to set where the file has none; others keep what they say.
    type: dict
    default: {}
  follows:
    description:
      - Objects of the file that mean something only together with the value of another key, each with that C(key) and
        with what the file means where it is C(unset).
      - When O(values) give the key another value, the old object goes with the old one.
    type: dict
    default: {}
  validate:
    description: A command that must accept the new file before it takes the old one's place; V(%s) stands for the file.
    type: str
  backup:
    description: Keep a copy of the old file beside it when it changes.
    type: bool
    default: true
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Containers keep running while Docker restarts
  celium.ops.json_merge:
    path: /etc/docker/daemon.json
    values: {live-restore: true}
    defaults: {runtimes: {nvidia: {path: nvidia-container-runtime}}}
    follows: {log-opts: {key: log-driver, unset: json-file}}
    validate: dockerd --validate --config-file %s
"""

RETURN = r"""
backup_file:
  description: The copy of the old file.
  returned: when the file existed and changed
  type: str
"""

import json
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule


def merge(old, new):
    """Return ``old`` with the keys of ``new``, objects key by key; neither argument is changed."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}


def kept(old, new, follows):
    """Return ``old`` without the objects whose other key gets another value."""
    before = {name: old.get(on["key"], on["unset"]) for name, on in follows.items()}
    gone = {name for name, on in follows.items() if new.get(on["key"], before[name]) != before[name]}
    return {key: value for key, value in old.items() if key not in gone}


def read(module, path):
    """Return the text of the file and its object; nothing is lost by guessing, so broken JSON is an error."""
    try:
        with open(path, encoding="utf-8") as stream:  # noqa: PTH123 - modules stay with the plain library
            text = stream.read()
    except FileNotFoundError:
        return "", {}
    except IsADirectoryError:
        if os.listdir(path):  # noqa: PTH208 - modules stay with the plain library
            module.fail_json(msg=f"{path} is a folder that holds something; it was left as it is")
        return "", {}
    try:
        content = json.loads(text) if text.strip() else {}
    except ValueError as error:
        module.fail_json(msg=f"{path} is not valid JSON ({error}); repair or remove it, it was left as it is")
    if not isinstance(content, dict):
        module.fail_json(msg=f"{path} holds no JSON object; repair or remove it, it was left as it is")
    return text, content


def write(module, path, text):
    """Put the text in the file's place once the validation has accepted it."""
    descriptor, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    if module.params["validate"]:
        command = module.params["validate"].replace("%s", temporary)
        code, out, err = module.run_command(command)
        if code:
            module.fail_json(msg=f"{path} would not be valid: {(err or out).strip()}; it was left as it is")
    if os.path.isdir(path):  # noqa: PTH112 - modules stay with the plain library
        try:
            os.rmdir(path)  # noqa: PTH106 - as above
        except OSError as error:
            module.fail_json(msg=f"the folder {path} cannot be removed ({error.strerror}); it was left as it is")
    if not os.path.exists(path):  # noqa: PTH110 - as above
        os.chmod(temporary, 0o644)  # noqa: PTH101 - daemon.json and its like are public
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)  # noqa: PTH103, PTH120 - as above
    module.atomic_move(temporary, path)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "values": {"type": "dict", "required": True},
            "defaults": {"type": "dict", "default": {}},
            "follows": {"type": "dict", "default": {}},
            "validate": {"type": "str"},
            "backup": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    before, content = read(module, path)
    stays = kept(content, module.params["values"], module.params["follows"])
    merged = merge(merge(module.params["defaults"], stays), module.params["values"])
    if merged == content and before:
        module.exit_json(changed=False)
    after = json.dumps(merged, indent=2) + "\n"
    result = {"changed": True, "diff": {"before_header": path, "after_header": path, "before": before, "after": after}}
    if not module.check_mode:
        if before and module.params["backup"]:
            result["backup_file"] = module.backup_local(path)
        write(module, path, after)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
