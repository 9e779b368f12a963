"""The lab's Ansible inventory: written once, then edited in place, so that what people changed in it stays."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celium_ops.base.errors import UsageError
from celium_ops.lab import ssh
from celium_ops.lab.layout import ANY_DIALECT, DIALECTS, GROUPS, USER, Files, Host, Lab
from celium_ops.lab.wallet import HOTKEY, wallet_name

if TYPE_CHECKING:
    from ruamel.yaml import YAML

IMAGE_VARIABLES = {
    "miners": {"miner_image": "daturaai/compute-subnet-miner", "miner_db_image": "library/postgres"},
    "validators": {
        "validator_image": "daturaai/compute-subnet-validator",
        "validator_db_image": "library/postgres",
        "validator_redis_image": "daturaai/redis",
    },
    "executors": {
        "executor_image": "daturaai/compute-subnet-executor",
        "executor_db_image": "library/postgres",
        "gpu_proof_image": "celium-ops/gpu-proof",
    },
}
"""The variables of each group that name an image, with the image's name in the lab's registry."""

_NEW = """\
# The inventory of the celium-ops lab "{lab}", a rehearsal fleet on this machine.
# Real here: systemd, sshd, apt and Docker in every host, the registry, every byte Ansible sends.
# Simulated: the GPUs, the chain and the neurons; all of them say so in what they report.
# Edit it as you like: `celium-ops lab up` adds what is new and keeps your changes.
all:
  vars:
    # One key and the host keys of this lab only; no password and no root login anywhere.
    ansible_user: {user}
    ansible_become: true
    ansible_python_interpreter: /usr/bin/python3
    # The lab's simulated chain: nothing is registered on a real one.
    celium_network: {chain}
    # Docker comes from Ubuntu and Debian. A new Ubuntu host may say vendor: stand-ins from the lab's signed repository.
    nvidia_docker_source: distribution
    # Whose software the fleet runs: celium (upstream of 2025-08) or lium (2025-12). A host may have one of its own.
    celium_dialect: celium
    # The neurons of both are stand-ins with upstream's interfaces, from the lab's registry; the databases are real.
    lab_images: {{}}
  children:
    miners:
      vars: {{}}
      hosts: {{}}
    validators:
      vars: {{}}
      hosts: {{}}
    executors:
      vars:
        # There is no GPU: a proof is simulated, and its verdict is "unknown".
        executor_gpu_proof: simulated
        # USD per GPU and hour.
        executor_price: 0.5
      hosts: {{}}
"""


@dataclass(frozen=True)
class Facts:
    """What the inventory says about a lab.

    Attributes:
        lab: its name and network.
        files: where its files are.
        hosts: its hosts, in order.
        hotkeys: the ss58 addresses of miners and validators by host name.
        validator: the ss58 address of the validator that executors are pinned to.
        packages_key: the fingerprint of the key that signs the lab's package repositories.
        images: digests by the image's name and tag in the registry; those that are not pushed yet are missing.
    """

    lab: Lab
    files: Files
    hosts: list[Host]
    hotkeys: Mapping[str, str]
    validator: str
    packages_key: str
    images: Mapping[str, str]


def image_values(facts: Facts) -> dict[str, str]:
    """Return what each variable about images is to hold, by ``GROUP.VARIABLE``, or ``GROUP.VARIABLE.KEY.KEY``.

    A neuron has an image for each dialect; which one a host gets follows from its ``celium_dialect``.
    """
    values = {}
    for group, variables in IMAGE_VARIABLES.items():
        for variable, name in variables.items():
            if image := _pinned(facts, name, ANY_DIALECT):
                values[f"{group}.{variable}"] = image
            for dialect, tag in DIALECTS.items():
                if image := _pinned(facts, name, tag):
                    role = variable.removesuffix("_image")
                    values[f"all.lab_images.{dialect}.{role}"] = image
                    values[f"{group}.{variable}"] = f"{{{{ lab_images[celium_dialect].{role} }}}}"
    return values


def _pinned(facts: Facts, name: str, tag: str) -> str | None:
    digest = facts.images.get(f"{name}:{tag}")
    return f"{facts.lab.registry}/{name}@{digest}" if digest else None


def updated(text: str | None, facts: Facts, listed: Collection[str], written: Mapping[str, str], file: str) -> str:
    """Return the inventory with what is new in it; the same text when nothing is.

    Args:
        text: the inventory as it is; None when there is none.
        facts: the lab.
        listed: the hosts that were written before: one that is missing now was removed by hand and stays away.
        written: the image values that were written before: another value now is a hand edit and stays.
        file: the file's name for errors.

    Raises:
        UsageError: the text is no YAML, or has something else where groups, hosts or variables belong.
    """
    yaml = _yaml()
    if text is None:
        listed, written = (), {}
    tree = _load(
        yaml, text if text is not None else _NEW.format(lab=facts.lab.name, user=USER, chain=facts.lab.chain), file
    )
    changed = text is None
    if text is None:
        _mapping(tree, ("all", "vars"), file).update(_connection(facts))
    children = ("all", "children")
    for host in facts.hosts:
        if host.name not in listed:
            hosts = _mapping(tree, (*children, host.group, "hosts"), file)
            if host.name not in hosts:
                _append(hosts, host.name, host_variables(host, facts))
                changed = True
    for place, value in image_values(facts).items():
        group, *keys = place.split(".")
        variables = _mapping(tree, ("all", "vars") if group == "all" else (*children, group, "vars"), file)
        present = _value(variables, keys)
        if present != value and present == written.get(place):
            _set(variables, keys, value)
            changed = True
    if not changed and text is not None:
        return text
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def host_variables(host: Host, facts: Facts) -> dict[str, Any]:
    """Return the variables of a new host."""
    variables: dict[str, Any] = {"ansible_host": host.address}
    if host.name in facts.hotkeys:
        role = GROUPS[host.group].role
        variables |= {
            f"{role}_wallet_name": wallet_name(host.name),
            f"{role}_wallet_hotkey": HOTKEY,
            f"{role}_wallet_source": str(facts.files.wallets),
            f"{role}_hotkey_ss58": facts.hotkeys[host.name],
        }
    if host.group == "miners":
        variables |= {"miner_evm_rpc_url": facts.lab.evm, "miner_external_ip": host.address}
    if host.group == "executors":
        miners = [other.name for other in facts.hosts if other.group == "miners"]
        if miners:
            variables["executor_miner"] = miners[(host.number - 1) % len(miners)]
    return variables


def _connection(facts: Facts) -> dict[str, Any]:
    return {
        "ansible_ssh_private_key_file": str(facts.files.key),
        "ansible_ssh_common_args": ssh.options_text(facts.files),
        "nvidia_docker_insecure_registries": [facts.lab.registry],
        "nvidia_docker_repository": f"{facts.lab.packages}/docker/linux",
        "nvidia_docker_key_fingerprint": facts.packages_key,
        "nvidia_docker_toolkit_repository": f"{facts.lab.packages}/libnvidia-container",
        "nvidia_docker_toolkit_key_fingerprint": facts.packages_key,
        "nvidia_docker_driver_repository": f"{facts.lab.packages}/cuda/repos",
        "nvidia_docker_driver_key_fingerprint": facts.packages_key,
    }


def _yaml() -> YAML:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _load(yaml: YAML, text: str, file: str) -> Any:
    from ruamel.yaml.error import MarkedYAMLError

    try:
        tree = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise UsageError(
            f"the lab's inventory is not valid YAML: {error.problem}",
            file=file,
            line=mark.line + 1 if mark else None,
            remedy="correct the line, or delete the file: `celium-ops lab up` writes a new one",
        ) from error
    return tree if tree is not None else yaml.load("all: {}\n")


def _mapping(tree: Any, path: Iterable[str], file: str) -> Any:
    """Return the mapping at a path, made where nothing is."""
    from ruamel.yaml.comments import CommentedMap

    node, walked = tree, []
    for key in ("", *path):
        if key:
            walked.append(key)
            if node.get(key) is None:
                node[key] = CommentedMap()
            node = node[key]
        if not isinstance(node, CommentedMap):
            raise UsageError(
                f"expected a mapping, found a {type(node).__name__}", file=file, key=".".join(walked) or None
            )
    return node


def _value(node: Any, keys: list[str]) -> Any:
    """Return the value at a path, None when there is none."""
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _set(mapping: Any, keys: list[str], value: Any) -> None:
    """Set the value at a path, with the mappings on the way."""
    from ruamel.yaml.comments import CommentedMap

    key, *rest = keys
    if rest and isinstance(mapping.get(key), dict):
        _set(mapping[key], rest, value)
        return
    for name in reversed(rest):
        value = CommentedMap({name: value})
    _append(mapping, key, value)


def _append(mapping: Any, key: str, value: Any) -> None:
    """Set a key; a new one goes to the end, but before the comments that follow the mapping.

    ruamel keeps the lines that follow a mapping with its last value, so they have to move to the new last one.
    """
    from ruamel.yaml.comments import CommentedMap

    if key in mapping:
        mapping[key] = value
        return
    mapping.fa.set_block_style()
    tail = _take_tail(mapping)
    mapping[key] = CommentedMap(value) if isinstance(value, dict) else value
    if tail is not None:
        holder, last = _last(mapping)
        holder.ca.items[last] = [None, None, tail, None]


def _last(mapping: Any) -> tuple[Any, Any]:
    """Return the innermost mapping that holds the last value, with its key."""
    from ruamel.yaml.comments import CommentedMap

    key = list(mapping)[-1]
    value = mapping[key]
    block = isinstance(value, CommentedMap) and value and not value.fa.flow_style()
    return _last(value) if block else (mapping, key)


def _take_tail(mapping: Any) -> Any:
    """Remove and return the comment lines behind a mapping; None when there are none."""
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    if not mapping:
        return None
    holder, key = _last(mapping)
    token = holder.ca.items.get(key, [None, None, None])[2]
    if token is None:
        return None
    own, newline, rest = token.value.partition("\n")
    if not rest:
        return None
    token.value = own + newline
    if not own.strip():
        del holder.ca.items[key]
    return CommentToken(newline + rest, CommentMark(0), None)
