"""Faults that operators meet again and again: what they are called, and what to do. The words are those of programs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from celium_ops.fleet.remedies import (
    GPUS_LOST_REMEDY,
    NO_CHAIN,
    NO_CHAIN_REMEDY,
    NOT_REGISTERED,
    NOT_REGISTERED_REMEDY,
    REFUSED_REMEDY,
)


@dataclass(frozen=True)
class Fault:
    """A known fault: ``cause`` in a few words, what an operator does about it, and its ``code`` if it has one."""

    pattern: re.Pattern[str]
    cause: str
    remedy: str
    code: str | None = None


NO_ANSWER = "the host does not answer"
"""The cause of what no other way of ours or Ansible's to the same place could heal."""


def _fault(pattern: str, cause: str, remedy: str, code: str | None = None) -> Fault:
    return Fault(re.compile(pattern, re.IGNORECASE), cause, remedy, code)


UNHEALTHY = _fault(
    r"is unhealthy|application not healthy|dependency failed to start|didn't complete successfully|exited \(\d+\)",
    "a container does not get healthy",
    "its last lines say why; celium_start_timeout is how long it may take",
)

HOTKEY_UNREADABLE = (
    "the hotkey's file cannot be read by upstream's programs",
    "tools of today (bittensor-wallet from 4.1, SDK 11) write cryptoType as a number: take that field out of the file"
    " on the host, or give miner_wallet_source or validator_wallet_source, from which it is copied without the field",
    "hotkey-unreadable",
)

# The first that matches counts, so what is special stands before what is general.
FAULTS = (
    _fault(
        r"unhealthy \(nvml: ",  # what follows is said in the container, and may be about anything
        "the executor's container has lost its GPUs",
        GPUS_LOST_REMEDY,
    ),
    _fault(f"{NO_CHAIN} .*{NOT_REGISTERED}", "the miner's hotkey is not registered", NOT_REGISTERED_REMEDY),
    _fault(NO_CHAIN, "the miner cannot use the chain", NO_CHAIN_REMEDY),
    _fault(
        r"missing sudo password|sudo: a password is required|not in the sudoers|not allowed to (run|execute)"
        r"|incorrect sudo password",
        "sudo is refused",
        "let the user run everything with sudo without a password, or give ansible_become_password in a vault",
    ),
    _fault(
        r"host key (of \S+ )?(is not known|has changed)|host key verification failed",
        "the host key is not trusted",
        "`celium-ops hosts trust` shows it, and records it if you agree; find out first why a known one has changed",
    ),
    _fault(
        r"permission denied \(|too many authentication failures",
        "the SSH key is refused",
        "check ansible_user and ansible_ssh_private_key_file, and the host's authorized_keys",
    ),
    _fault(
        r"docker pull \S+ did not end in",
        "an image takes too long to download",
        "look from the host how fast the registry is; celium_pull_timeout is how long it may take",
    ),
    _fault(
        r"the task did not end in \d|timed out after \d+ second\(s\)",
        "the host hangs",
        "log in and see what does not answer there: a disk, Docker, apt; docs/hosts.md says how long tasks may take",
    ),
    _fault(
        r"no space left on device|enospc|disk quota exceeded",
        "the disk is full",
        "make room on the host: `df -h` and `docker system df` show what holds it",
    ),
    _fault(
        r"could not get lock|failed to lock apt|dpkg frontend lock|unable to acquire the dpkg",
        "another program holds apt's lock",
        "wait until it has ended and deploy again; unattended-upgrades is a common one",
    ),
    _fault(
        r"the signing key|the repository \S+ \S+ cannot be used|does not go with the others of the host",
        "a package repository cannot be used",
        "check nvidia_docker_repository, its key and fingerprint, and from the host that it is reached",
    ),
    _fault(
        r"docker did not start with its new",
        "Docker refuses its configuration",
        "`systemctl cat docker` on the host shows its options: what stands there must not stand in daemon.json too",
    ),
    _fault(
        r"would not be valid",
        "Docker refuses its configuration",
        "correct nvidia_docker_daemon_options in the inventory",
    ),
    _fault(
        r"it was left as it is",
        "a configuration file is not what it should be",
        "look at it on the host: repair it, or remove it if nobody needs it, and deploy again",
    ),
    _fault(
        r"there is a database already",
        "the password of a database is not known",
        "give it as executor_db_password, miner_db_password or validator_db_password, best in a vault",
    ),
    _fault(r"hotkeys/.* cannot be read by the \w+:", *HOTKEY_UNREADABLE),
    _fault(
        r"could not select device driver|nvidia-container-cli|nvidia-smi: not found",
        "Docker cannot give GPUs to a container",
        "install the NVIDIA driver: `nvidia-smi` on the host must list the cards",
    ),
    _fault(
        r"manifest unknown|manifest for \S+ not found|pull access denied|failed to resolve reference .*not found",
        "the registry has no such image",
        "correct the image or its digest in the inventory, or push it to the registry",
    ),
    _fault(
        r"(failed to (do|resolve)|error response from daemon: get ).*"
        r"(connection refused|i/o timeout|no route to host|no such host|deadline exceeded|gave http response)",
        "the registry does not answer",
        "check celium_registry, and from the host that it is reached; without TLS it must stand in"
        " nvidia_docker_insecure_registries",
    ),
    _fault(
        r"port is already allocated|address already in use",
        "a port is taken on the host",
        "`ss -ltnp` on the host shows by whom: stop it, or give the service another port in the inventory",
    ),
    _fault(
        r"did not receive an exit event",
        "Docker has lost a container",
        "`ctr -n moby tasks delete --force` with the container's whole id frees it; a deploy does so with its own",
    ),
    _fault(
        r"database of the miner does not answer|database of the miner did not answer",
        "the miner's database does not answer",
        "deploy with the miner (its stack is started then), or look at the log of its database",
    ),
    _fault(
        r"it obeys another hotkey",
        "an executor obeys another hotkey than its miner's",
        "executor_miner must name its miner, or executor_miner_hotkey the hotkey; then deploy the executor",
    ),
    _fault(
        r"registered for \S+, which \S+ does not accept",
        "an executor serves a validator that its miner does not accept",
        REFUSED_REMEDY,
    ),
    _fault(
        r"failed to send ssh key",
        "the miner does not reach an executor",
        "executor_address with executor_external_port must answer the miner's host",
    ),
    UNHEALTHY,
    _fault(
        r"waiting for privilege escalation prompt",
        NO_ANSWER,
        "check that it runs; if it does, `time sudo true` there shows whether sudo waits, for a name server, say",
    ),
    _fault(
        r"connection refused|timed out|no route to host|could not resolve hostname|connection closed|connection reset"
        r"|no answer in|server \S+ not responding",
        NO_ANSWER,
        "check that it runs, and ansible_host and ansible_port",
    ),
)

SAID_LAST = "said last:"
"""After these words an error quotes the log of a container, as the roles write it."""
# What a container says of itself may be about anything, also about others: of its words only these count, and only when
# nothing is wrong but that it does not get healthy.
LAST_WORDS = (
    _fault(
        r"password authentication failed for user",
        "the database has another password",
        "a database keeps the password it was made with: put that one into the inventory or the folder of secrets",
    ),
    _fault(r"failed to parse keyfile data|KeyFileError", *HOTKEY_UNREADABLE),
)


def recognise(message: str) -> Fault | None:
    """Return the known fault that a program's message is about; null for an unknown one."""
    message, _, quoted = message.partition(SAID_LAST)
    found = next((fault for fault in FAULTS if fault.pattern.search(message)), None)
    if found is not UNHEALTHY:
        return found
    return next((fault for fault in LAST_WORDS if fault.pattern.search(quoted)), UNHEALTHY)
