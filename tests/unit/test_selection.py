from pathlib import Path

import pytest

from celium_ops.base.errors import UsageError
from celium_ops.fleet.model import Connection, Fleet, Host
from celium_ops.workflows.selection import select

FLEET = Fleet(
    Path("fleet.yml"),
    {
        name: Host(name, role, Connection(name), {})
        for name, role in {"miner-1": "miner", "gpu-1": "executor", "gpu-2": "executor"}.items()
    },
)

CHOICES = [
    (None, ["miner-1", "gpu-1", "gpu-2"]),
    ("gpu-2", ["gpu-2"]),
    ("gpu-*", ["gpu-1", "gpu-2"]),
    ("executors", ["gpu-1", "gpu-2"]),
    ("gpu-2,miners", ["miner-1", "gpu-2"]),
    ("all", ["miner-1", "gpu-1", "gpu-2"]),
]


@pytest.mark.parametrize(("limit", "names"), CHOICES)
def test_a_limit_selects(limit, names):
    assert [host.name for host in select(FLEET, limit)] == names


@pytest.mark.parametrize("limit", ["gpu-3", "gpu-1,gpu-9", "", "validators"])
def test_a_limit_that_matches_nothing_is_wrong_usage(limit):
    with pytest.raises(UsageError, match="matches no host"):
        select(FLEET, limit)
