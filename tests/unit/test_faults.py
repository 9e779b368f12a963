"""Programs' own words, as they were seen, and what an operator is told about them."""

import pytest

from celium_ops.workflows.faults import FAULTS, LAST_WORDS, recognise

SEEN = [
    ("Gathering Facts: Task failed: Missing sudo password", "sudo is refused"),
    ("sudo: a password is required", "sudo is refused"),
    ("ops is not in the sudoers file.", "sudo is refused"),
    ("the host key of 192.0.2.1 has changed; celium-ops hosts trust shows both", "the host key is not trusted"),
    ("its host key is not known, or has changed", "the host key is not trusted"),
    ("ops@192.0.2.1: Permission denied (publickey).", "the SSH key is refused"),
    ("Gathering Facts: the task did not end in 300 s", "the host hangs"),
    ("Task failed: Timed out after 300 second(s).", "the host hangs"),
    (
        "docker pull registry.example/executor@sha256:00 did not end in 3600 s (celium_pull_timeout)",
        "an image takes too long to download",
    ),
    ("Failed to replace '/opt/celium/.env': [Errno 28] No space left on device", "the disk is full"),
    (
        "Failed to lock apt for exclusive operation: E:Could not get lock /var/lib/dpkg/lock-frontend. It is held by"
        " process 4711 (unattended-upgr)",
        "another program holds apt's lock",
    ),
    (
        "the repository http://192.0.2.3/docker noble cannot be used: Connection refused; nothing was changed",
        "a package repository cannot be used",
    ),
    (
        "Docker did not start with its new /etc/docker/daemon.json, so the old one is back and Docker runs; it said: x",
        "Docker refuses its configuration",
    ),
    (
        "/etc/docker/daemon.json would not be valid: unknown key x; it was left as it is",
        "Docker refuses its configuration",
    ),
    (
        "/etc/docker/daemon.json is not valid JSON (Expecting value); repair or remove it, it was left as it is",
        "a configuration file is not what it should be",
    ),
    (
        "there is a database already (volume miner_db_data), and neither this controller nor the host has its password",
        "the password of a database is not known",
    ),
    ('could not select device driver "nvidia" with capabilities: [[gpu]]', "Docker cannot give GPUs to a container"),
    (
        'failed to resolve reference "192.0.2.9:5000/library/postgres@sha256:00": 192.0.2.9:5000/library/postgres: not'
        " found",
        "the registry has no such image",
    ),
    (
        'failed to do request: Head "https://192.0.2.9:5000/v2/": dial tcp 192.0.2.9:5000: connect: connection refused',
        "the registry does not answer",
    ),
    ("failed to bind host port 0.0.0.0:8001/tcp: address already in use", "a port is taken on the host"),
    ("the database of the miner does not answer: container is not running", "the miner's database does not answer"),
    (
        "executor-1: it is not in the registry; upstream said: <urlopen error [Errno 111] Connection refused>;"
        " Failed to send SSH key",
        "the miner does not reach an executor",
    ),
    (
        "executor-1: it is not in the registry; upstream said: API request failed to register SSH key - HTTP error:"
        " it obeys another hotkey (status 401); Failed to send SSH key - Please check",
        "an executor obeys another hotkey than its miner's",
    ),
    (
        "registered for 5Hp1, which miner-1 does not accept: it accepts 5F7X only",
        "an executor serves a validator that its miner does not accept",
    ),
    ("executor is running, unhealthy (NVML: Unknown Error)", "the executor's container has lost its GPUs"),
    (
        "the miner cannot use the chain: its log says [sync] Miner sync failed",
        "the miner cannot use the chain",
    ),
    (
        "the miner cannot use the chain: its log says is not registered on netuid",
        "the miner's hotkey is not registered",
    ),
    ("container executor-executor-1 is unhealthy", "a container does not get healthy"),
    (
        "container executor-db-1 exited (1)\nexecutor-db-1 (exited) said last:\n  connect: Connection refused",
        "a container does not get healthy",
    ),
    (
        "container miner-miner-1 is unhealthy\nminer-miner-1 (running) said last:\n"
        '  FATAL:  password authentication failed for user "postgres"',
        "the database has another password",
    ),
    (
        "/root/.bittensor/wallets/w/hotkeys/default cannot be read by the miner: cryptoType is not a text; the"
        " containers that run were left alone",
        "the hotkey's file cannot be read by upstream's programs",
    ),
    (
        "container miner-miner-1 is unhealthy\nminer-miner-1 (restarting) said last:\n"
        "  bittensor_wallet.KeyFileError: Deserialization error: Failed to parse keyfile data.",
        "the hotkey's file cannot be read by upstream's programs",
    ),
    (
        "Error response from daemon: cannot stop container: 9f5f: tried to kill container, but did not receive an exit"
        " event\nexecutor-executor-1 (restarting) said last:\n  FATAL:  password authentication failed for user",
        "Docker has lost a container",
    ),
    ("ssh: connect to host 192.0.2.1 port 22: Connection refused", "the host does not answer"),
    ("Timeout, server 192.0.2.1 not responding.", "the host does not answer"),
    ("Task failed: Timeout (17s) waiting for privilege escalation prompt:", "the host does not answer"),
]


@pytest.mark.parametrize(("message", "cause"), SEEN)
def test_a_known_fault_is_recognised(message, cause):
    found = recognise(f"Some | Task: {message}\nmore lines")
    assert found
    assert (found.cause, bool(found.remedy)) == (cause, True)


def test_programs_know_an_unreadable_hotkey_by_its_code():
    found = [fault.code for message, _ in SEEN if (fault := recognise(message)) and "hotkey's file" in fault.cause]
    assert found == ["hotkey-unreadable"] * 2


def test_every_fault_is_recognised_by_something_seen_and_nothing_else_is_one():
    assert {recognise(message) for message, _ in SEEN} == {*FAULTS, *LAST_WORDS}
    assert recognise("Preflight | No coldkey belongs on a host: it is a coldkey") is None
