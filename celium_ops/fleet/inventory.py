"""From an inventory to a checked fleet: every value against its contract, every host against the others."""

from __future__ import annotations

import difflib
import functools
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Literal

import yaml

from celium_ops.base.errors import UsageError
from celium_ops.fleet.contract import GROUP_OF_ROLE, Variable, all_variables, load_contracts
from celium_ops.fleet.model import Connection, Fleet, Host, Role
from celium_ops.fleet.remedies import NO_EVM, NO_EVM_REMEDY
from celium_ops.fleet.resolve import CONNECTION, PREFIXES, DuplicateKey, Located, ResolvedHost, resolve_all
from celium_ops.fleet.values import WrongValueError, check, is_lasting, is_pinned, renting_mappings, renting_range
from celium_ops.fleet.wallets import wallet_faults

Severity = Literal["error", "warning"]

ROLES: dict[str, Role] = {"miners": "miner", "executors": "executor", "validators": "validator"}
"""The groups that give a host its role."""


PUBLIC = ("finney", "test")
"""Networks on which others would meet what a lab pretends to be."""

WITHOUT_ROLE = "host-without-role"
"""The code of a finding about a host that is in no role's group."""
DUPLICATE_KEY = "duplicate-key"
"""The code of a finding about a key that a file gives twice."""

_OF_ROLES = tuple(prefix for prefix in PREFIXES if prefix != "firewall_")
"""Keys that only a host with a role needs; the firewall's role is of use to others too."""
_CLOSE = 0.8
"""Similarity (difflib's ratio) from which the name of a group is taken for a misspelt one."""


@dataclass(frozen=True)
class Finding:
    """Something wrong, or doubtful, in an inventory; ``code`` names those that other commands decide by."""

    severity: Severity
    message: str
    host: str | None = None
    file: str | None = None
    line: int | None = None
    key: str | None = None
    found: Any = None
    expected: str | None = None
    code: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding as ``inventory lint --json`` promises it."""
        return asdict(self)


def load_fleet(inventory: Path) -> Fleet:
    """Return the fleet of a correct inventory; warnings are left to ``inventory lint``.

    Raises:
        UsageError: the first error found, with the number of the others.
    """
    fleet, findings = check_inventory(inventory)
    stop_at_errors(findings)
    return fleet


def stop_at_errors(findings: Iterable[Finding]) -> None:
    """Let an inventory with errors go no further.

    Raises:
        UsageError: the first error found, with the number of the others.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    errors.sort(key=lambda finding: finding.code != DUPLICATE_KEY)  # other errors may follow from what is lost
    if errors:
        first, others = errors[0], len(errors) - 1
        more = f" (and {others} more)" if others else ""
        raise UsageError(
            f"{first.message}{more}",
            host=first.host,
            file=first.file,
            line=first.line,
            key=first.key,
            remedy="celium-ops inventory lint shows every finding; nothing was touched",
            code=first.code or "wrong-inventory",
        )


def check_inventory(inventory: Path) -> tuple[Fleet, list[Finding]]:
    """Return the fleet and everything found in its inventory, errors and warnings, host by host.

    Raises:
        UsageError: Ansible cannot read the inventory at all.
    """
    read = resolve_all(inventory)
    resolved = read.hosts
    findings = [_given_again(duplicate) for duplicate in read.duplicates]
    hosts: dict[str, Host] = {}
    for host in resolved.values():
        checker = _HostChecker(host, inventory)
        findings.extend(checker.findings())
        if checker.role:
            origins = {key: (host.variables[key].file, host.variables[key].line) for key in checker.values}
            given = {key: one.value for key, one in host.variables.items() if key.startswith(PREFIXES)}
            hosts[host.name] = Host(host.name, checker.role, _connection(host), checker.values, origins, given)
    if not hosts:
        message = f"no host is in the groups {' or '.join(ROLES)}"
        findings.append(Finding("error", message, file=str(inventory), expected="at least one host with a role"))
    fleet = Fleet(inventory, hosts)
    findings.extend(_between_hosts(fleet, resolved))
    return fleet, sorted(findings, key=lambda finding: (finding.file or "", finding.line or 0))


def _given_again(duplicate: DuplicateKey) -> Finding:
    (first, column), (line, again) = duplicate.first, duplicate.again
    where = f" in {duplicate.where}" if duplicate.where else ""
    lost = f"; {', '.join(duplicate.lost)} would be lost" if duplicate.lost else ""
    return Finding(
        "error",
        f"{duplicate.key} is given twice{where}, at line {first} column {column} and at line {line} column {again}:"
        f" Ansible uses only the last one{lost}",
        file=duplicate.file,
        line=line,
        key=duplicate.key,
        expected="the key once, with everything that belongs to it",
        code=DUPLICATE_KEY,
    )


class _HostChecker:
    """Checks one host's variables; ``values`` holds the good ones when ``findings`` is through."""

    def __init__(self, host: ResolvedHost, inventory: Path) -> None:
        self.host = host
        self.inventory = inventory
        roles = [ROLES[group] for group in host.groups if group in ROLES]
        self.role: Role | None = roles[0] if roles else None
        self.two_roles = len(roles) > 1
        self.values: dict[str, Any] = {}

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with this host alone."""
        if self.two_roles:
            yield self._at_host("is in the groups of two roles", expected=f"one of {', '.join(ROLES)}")
        yield from self._unknown_keys()
        if self.role is None:
            yield self._without_role()
            return
        yield from self._connection()
        for contract in load_contracts().values():
            if contract.group in ("all", GROUP_OF_ROLE[self.role]):
                for name, variable in contract.variables.items():
                    yield from self._variable(name, variable)
        if self.role == "executor":
            yield from self._ports()
        yield from self._wallet()

    def _without_role(self) -> Finding:
        """Return the finding about a host that every command leaves out: an error where that is surely not meant."""
        groups = [group for group in self.host.groups if group != "ungrouped"]
        shown = f"its groups: {', '.join(groups)}" if groups else "it has no group"
        near = {group: match[0] for group in groups if (match := _role_group_like(group))}
        keys = [key for key in self.host.own_keys if key.startswith(_OF_ROLES)]
        why = [f"{group} looks like {match}" for group, match in near.items()]
        why += [f"it has {keys[0]}, which only a host with a role needs"] if keys else []
        return replace(
            self._at_host(f"is in no group that gives it a role ({'; '.join([shown, *why])}), so it is left out"),
            severity="error" if why else "warning",
            found=groups,
            expected=f"a host of {' or '.join(near.values() or ROLES)}",
            code=WITHOUT_ROLE,
        )

    def _at_host(self, message: str, key: str | None = None, expected: str | None = None) -> Finding:
        return Finding(
            "error",
            f"{self.host.name} {message}",
            host=self.host.name,
            file=str(self.inventory),
            line=_line_of_host(self.inventory, self.host.name),
            key=key,
            expected=expected,
        )

    def _at(self, key: str, message: str, expected: str | None = None, severity: Severity = "error") -> Finding:
        return _at_key(self.inventory, self.host, key, severity, message, expected)

    def _connection(self) -> Iterator[Finding]:
        """Check what we take from Ansible's own keys; Ansible itself checks them only when it connects."""
        for key in CONNECTION:
            located = self.host.variables.get(key)
            if located is None:
                continue
            try:
                if located.error:
                    raise WrongValueError(f"a value that can be worked out: {located.error}")
                if key.endswith("_args"):
                    shlex.split(str(located.value or ""))
                elif key == "ansible_port":
                    check("port", located.value)
                elif key != "ansible_become":
                    check("str", "" if located.value is None else located.value)
            except ValueError as error:
                yield self._at(key, f"{key}: {located.value!r} is not {error}", expected=str(error))

    def _unknown_keys(self) -> Iterator[Finding]:
        known = all_variables()
        for key in self.host.variables:
            if key.startswith(PREFIXES) and key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield self._at(key, f"unknown key {key}{hint}", expected=near[0] if near else None)

    def _variable(self, name: str, variable: Variable) -> Iterator[Finding]:
        located = self.host.variables.get(name, Located(None))
        if located.error:
            yield self._at(name, f"{name} cannot be worked out: {located.error}")
        elif located.value is None:
            if variable.required:
                yield self._at_host(f"has no {name} ({variable.meaning})", key=name, expected=variable.meaning)
        else:
            yield from self._value(name, variable, located)
            dialect = self.values.get("celium_dialect", variable.dialects[0])
            if dialect not in variable.dialects and located.value != variable.default:
                message = f"{name} means nothing in dialect {dialect}"
                yield self._at(name, message, expected="the line left out", severity="warning")

    def _value(self, name: str, variable: Variable, located: Located) -> Iterator[Finding]:
        try:
            value = check(variable.type, located.value)
        except WrongValueError as error:
            if located.file is None:
                return  # it follows from another value, which is reported where it stands
            shown = "its value" if variable.secret else repr(located.value)
            yield self._at(name, f"{name}: {shown} is not {error}", expected=str(error))
            return
        if variable.choices and str(value) not in variable.choices:
            expected = "one of " + ", ".join(variable.choices)
            yield self._at(name, f"{name}: {value!r} is not {expected}", expected=expected)
            return
        if variable.type == "image" and not is_pinned(value):
            message = f"{name}: {value} is not pinned by digest, so two hosts may run different images"
            yield self._at(name, message, expected="registry/name@sha256:digest", severity="warning")
        if variable.type == "device" and not is_lasting(value):
            message = f"{name}: {value} may be another disk after a boot"
            yield self._at(name, message, expected="its name below /dev/disk/by-id", severity="warning")
        self.values[name] = value

    def _wallet(self) -> Iterator[Finding]:
        values = {key.removeprefix(f"{self.role}_"): value for key, value in self.values.items()}
        if not {"wallet_source", "wallet_name", "wallet_hotkey"} <= values.keys():
            return
        wallet = Path(values["wallet_source"]).expanduser() / values["wallet_name"]
        for fault in wallet_faults(wallet, values["wallet_hotkey"], values.get("hotkey_ss58")):
            key = f"{self.role}_{fault.about}"
            yield self._at(key, f"{key}: {fault.message}", expected=fault.expected, severity=fault.severity)

    def _ports(self) -> Iterator[Finding]:
        """Check that no port of the host is given away twice."""
        external, ssh = (self.values.get(name) for name in ("executor_external_port", "executor_ssh_port"))
        if external is not None and external == ssh:
            message = f"executor_ssh_port: {ssh} is executor_external_port too"
            yield self._at("executor_ssh_port", message, expected="two different ports")
        forms: dict[str, Callable[[Any], list[int]]] = {
            "executor_renting_port_range": renting_range,
            "executor_renting_port_mappings": renting_mappings,
        }
        given = [key for key in forms if key in self.values]
        if len(given) > 1:
            # Upstream takes the mappings and ignores the range without a word (run 2026-11-20).
            yield self._at(given[1], f"{given[1]} stands beside {given[0]}", expected="one of the two")
        for key in given:
            taken = {external, ssh} & set(forms[key](self.values[key]))
            if taken:
                message = f"{key}: {taken.pop()} is a port of the executor itself, so no renter can have it"
                yield self._at(key, message, expected="ports without executor_external_port and executor_ssh_port")


def _role_group_like(name: str) -> list[str]:
    """Return the role's group for which the name of another group is probably meant, if there is one."""
    return difflib.get_close_matches(name.lower().replace("-", "_"), ROLES, n=1, cutoff=_CLOSE)


def _between_hosts(fleet: Fleet, resolved: dict[str, ResolvedHost]) -> Iterator[Finding]:
    """Yield what is wrong between hosts: links to miners, hotkeys, endpoints used twice, validators left out."""
    yield from _given_twice(fleet, resolved)
    yield from _hidden_by_pools(fleet, resolved)
    outdated = next((host for host in fleet.hosts.values() if host.outdated), None)
    if outdated:
        message = "celium_dialect: celium cannot read today's main chain (finney); deploy wants --accept-outdated there"
        yield _at_key(fleet.inventory, resolved[outdated.name], "celium_dialect", "warning", message, "lium on finney")
    for host in fleet.of_role("miner"):
        if host.without_evm:
            miner = resolved[host.name]
            yield _at_key(fleet.inventory, miner, "celium_network", "warning", NO_EVM, NO_EVM_REMEDY)
    for host in fleet.of_role("executor"):
        at = functools.partial(_at_key, fleet.inventory, resolved[host.name])
        network = host.values.get("celium_network")
        if host.values.get("executor_gpu_proof") == "simulated" and network in PUBLIC:
            message = f"{host.name} would stand on the public network {network} with simulated GPUs"
            yield at("executor_gpu_proof", "error", message, "required or advise")
        yield from _link_to_miner(fleet, host, resolved[host.name], at)
        if host.miner and host.lium and host.values.get("executor_price") is None:
            message = f"{host.name} has no executor_price, so it will not be registered and earns nothing"
            yield at("executor_price", "warning", message, all_variables()["executor_price"].meaning)


def _hidden_by_pools(fleet: Fleet, resolved: dict[str, ResolvedHost]) -> Iterator[Finding]:
    """Yield pools of container addresses that hold the address of a host: the containers could not reach it."""
    addresses = [(address, host.name) for host in fleet.hosts.values() if (address := _ipv4(host.connection.address))]
    held: dict[str, tuple[IPv4Address, str] | None] = {}  # a fleet has many hosts and few pools
    for host in fleet.hosts.values():
        for pool in host.values.get("nvidia_docker_address_pools") or ():
            base = pool["base"]
            if base not in held:
                network = IPv4Network(base)
                held[base] = next((one for one in addresses if one[0] in network), None)
            if found := held[base]:
                message = (
                    f"{base} holds {found[0]}, the address of {found[1]}, which containers of {host.name} would hide"
                )
                key, expected = "nvidia_docker_address_pools", "a network in which no host is"
                yield _at_key(fleet.inventory, resolved[host.name], key, "error", f"{key}: {message}", expected)


def _ipv4(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:  # a name
        return None


def _given_twice(fleet: Fleet, resolved: dict[str, ResolvedHost]) -> Iterator[Finding]:
    """Yield what two hosts have that only one can: a hotkey, an address and port, a machine."""
    seen: dict[tuple[str, ...], str] = {}
    for host in fleet.hosts.values():
        for severity, key, why, *what in _only_once(host):
            other = seen.setdefault((key, *what), host.name)
            if other != host.name:
                message = f"{host.name} and {other} share {':'.join(what)}; {why}"
                yield _at_key(fleet.inventory, resolved[host.name], key, severity, message, "one of its own")


def _only_once(host: Host) -> Iterator[tuple[Severity, str, str, *tuple[str, ...]]]:
    values = host.values
    if host.role == "executor" and {"executor_address", "executor_external_port"} <= values.keys():
        why = "a miner's registry holds it once"
        yield "error", "executor_external_port", why, values["executor_address"], str(values["executor_external_port"])
    if host.role == "miner" and {"miner_external_ip", "miner_external_port"} <= values.keys():
        why = "validators would find only one of them"
        yield "error", "miner_external_port", why, values["miner_external_ip"], str(values["miner_external_port"])
    if key := next((key for key in ("miner_hotkey_ss58", "validator_hotkey_ss58") if key in values), None):
        yield "error", key, "a hotkey has one place on chain", values[key]
    machine = host.connection
    why = "they would share one Docker engine"
    yield "warning", "ansible_host", why, machine.address, str(machine.port or 22)


def _link_to_miner(fleet: Fleet, host: Host, resolved: ResolvedHost, at: Callable[..., Finding]) -> Iterator[Finding]:
    miner, hotkey = fleet.hosts.get(host.miner or ""), host.values.get("executor_miner_hotkey")
    if not host.miner:
        if not hotkey:
            message = f"{host.name} has neither executor_miner nor executor_miner_hotkey, so it would obey nobody"
            yield at("executor_miner", "error", message, "the inventory name of a miner")
    elif miner is None or miner.role != "miner":
        message = f"executor_miner: {host.miner!r} is no host of the group miners"
        yield at("executor_miner", "error", message, "the inventory name of a miner")
    elif resolved.variables["executor_miner_hotkey"].file and hotkey != miner.values.get("miner_hotkey_ss58"):
        message = f"executor_miner_hotkey: {hotkey} is not the hotkey of {miner.name}"
        yield at("executor_miner_hotkey", "error", message, "the line left out: it follows from the miner")


def _at_key(
    inventory: Path, host: ResolvedHost, key: str, severity: Severity, message: str, expected: str | None
) -> Finding:
    """Return a finding about a key of a host, placed where the inventory says it, else where it names the host."""
    located = host.variables.get(key, Located(None))
    file, line = located.file or str(inventory), located.line or _line_of_host(inventory, host.name)
    variable = all_variables().get(key)
    # The value of a misspelt key may be a secret too.
    secret = variable.secret if variable else key.startswith(PREFIXES)
    found = "(secret)" if secret else located.value
    return Finding(severity, message, host.name, file, line, key, found, expected)


def _connection(host: ResolvedHost) -> Connection:
    def value(key: str) -> Any:
        return host.variables.get(key, Located(None)).value

    arguments = [value("ansible_ssh_common_args"), value("ansible_ssh_extra_args")]
    return Connection(
        address=str(value("ansible_host") or host.name),
        port=int(value("ansible_port")) if str(value("ansible_port")).isdigit() else None,
        user=value("ansible_user"),
        key_file=value("ansible_ssh_private_key_file") or value("ansible_private_key_file"),
        arguments=" ".join(part for part in arguments if part),
        plugin=value("ansible_connection"),
    )


def _line_of_host(inventory: Path, name: str) -> int | None:
    """Return the line on which a YAML inventory names a host; null for other kinds of inventory."""
    try:
        return _lines_of_names(inventory.read_text()).get(name)
    except (OSError, UnicodeDecodeError):
        return None


@functools.lru_cache(maxsize=1)
def _lines_of_names(text: str) -> dict[str, int]:
    """Return the first line of each name in a YAML text, nothing if it is none; a fleet has many hosts in one text."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return {}
    lines: dict[str, int] = {}
    pending = [root] if root else []
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                pending.append(value)
                if isinstance(key, yaml.ScalarNode):
                    lines[key.value] = min(lines.get(key.value, key.start_mark.line + 1), key.start_mark.line + 1)
    return lines
