"""The pure parts of our Ansible plugins; what they do on a host is tested in the lab."""

import pytest
from ansible_collections.celium.ops.plugins.filter.env_value import env_value
from ansible_collections.celium.ops.plugins.modules.json_merge import merge
from ansible_collections.celium.ops.plugins.modules.miner_registry import (
    command,
    difference,
    explanation,
    of_dialect,
    planned,
    read_back,
)
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@given(OBJECT, OBJECT)
def test_merging_sets_our_keys_and_keeps_the_others(old, new):
    merged = merge(old, new)
    assert {key: merged[key] for key in old.keys() - new.keys()} == {key: old[key] for key in old.keys() - new.keys()}
    assert merge(merged, new) == merged
    assert merge({}, new) == new


ENV = [
    (8001, "8001"),
    (True, "true"),
    ([[1, 2], [3, 4]], "'[[1,2],[3,4]]'"),
    ("40000-40100", "40000-40100"),
    ("has space # no comment", "'has space # no comment'"),
    ("pa$$word", "'pa$$word'"),
    ("it's $HOME", '"it\'s \\$HOME"'),
    ("back\\slash", '"back\\\\slash"'),
]


@pytest.mark.parametrize(("value", "written"), ENV)
def test_how_a_value_is_written(value, written):
    assert env_value(value) == written


@pytest.mark.parametrize("value", ["two\nlines", "nul\0"])
def test_what_no_env_file_can_carry_is_refused(value):
    with pytest.raises(ValueError, match="line break or NUL"):
        env_value(value)


GPU = {"name": "gpu-1", "address": "192.0.2.9", "port": 8001, "validator": "5new", "price": None}

ROW = {"validator": "5new", "price": None}

# What the inventory says, the miner's default validator, the row, the dialect, and what is done.
PLANS = [
    ({}, None, None, "celium", ["add-executor"]),
    ({}, None, {**ROW, "validator": "5old"}, "celium", ["switch-validator"]),
    ({}, None, ROW, "celium", []),
    ({"price": 1.5}, None, ROW, "celium", []),
    ({}, "5default", ROW, "celium", []),
    ({"price": 1.5}, None, None, "lium", ["add-executor"]),
    ({"price": 1.5}, None, ROW, "lium", ["update-executor-price"]),
    ({"price": 1.5}, None, {**ROW, "price": "NaN"}, "lium", ["update-executor-price"]),
    ({"price": 1.5}, None, {**ROW, "price": 1.5}, "lium", []),
    ({}, None, {**ROW, "price": 1.5}, "lium", []),
    ({}, None, {**ROW, "validator": "5old"}, "lium", []),
    ({"price": 0.0}, "5default", {**ROW, "price": 1.5}, "lium", ["switch-validator", "update-executor-price"]),
]


@pytest.mark.parametrize(("change", "default_validator", "row", "dialect", "actions"), PLANS)
def test_the_registry_is_brought_in_step(change, default_validator, row, dialect, actions):
    assert planned(of_dialect({**GPU, **change}, dialect, default_validator), row, dialect) == actions


IMPOSSIBLE = [({"validator": None}, None, "celium", "executor_validator"), ({}, None, "lium", "executor_price")]


@pytest.mark.parametrize(("change", "row", "dialect", "missing"), IMPOSSIBLE)
def test_what_is_missing_is_named(change, row, dialect, missing):
    with pytest.raises(ValueError, match=missing):
        planned({**GPU, **change}, row, dialect)


COMMANDS = [
    ("add-executor", "celium", ["--validator", "5new"], ""),
    ("add-executor", "lium", ["--price", "1.5"], ""),
    ("switch-validator", "celium", ["--validator", "5new"], "y\n"),
    ("switch-validator", "lium", ["--validator", "5new"], "y\n"),
    ("update-executor-price", "lium", ["--price", "1.5"], ""),
]


@pytest.mark.parametrize(("action", "dialect", "options", "stdin"), COMMANDS)
def test_every_option_is_given_since_a_missing_one_becomes_a_prompt(action, dialect, options, stdin):
    arguments, answers = command(action, {**GPU, "price": 1.5}, dialect)
    assert arguments[6:] == ["/root/app/src/cli.py", action, "--address", "192.0.2.9", "--port", "8001", *options]
    assert answers == stdin


def outcome(rows, dialect="celium", **change):
    result = of_dialect({**GPU, "error": None, **change}, dialect, None)
    read_back(result, {(row["address"], row["port"]): row for row in rows}, dialect)
    return result["error"]


def test_only_the_database_says_whether_a_change_worked():
    assert outcome([{**GPU}], error="something on stderr") is None
    assert "not in the registry; upstream said: Added executor" in outcome([], error="Added executor")
    assert "still registered for 5old" in outcome([{**GPU, "validator": "5old"}])
    assert outcome([{**GPU, "price": 1.5}], "lium", price=1.5, error="something") is None
    assert "still registered for 5new at 0.5 USD" in outcome([{**GPU, "price": 0.5}], "lium", price=1.5)


SAID = [
    ("INFO:x:fine\nERROR:root:first\nmore of it\nERROR:__main__:second\n", "first; second"),
    ("INFO:x:fine\n\nAborted!\n", "Aborted!"),
    ("", ""),
    ("INFO:x:Testing executor connectivity\nERROR:x:Failed to send SSH key - y\n", "Failed to send SSH key - y"),
    ("INFO:x:Testing executor connectivity\nINFO:x:Connectivity test passed\nERROR:x:full\n", "full"),
]


@pytest.mark.parametrize(("said", "why"), SAID)
def test_the_errors_of_upstreams_command_line_explain_a_failure(said, why):
    assert explanation(said) == why


def test_a_login_that_upstream_is_silent_about_is_named():
    assert "SSH port" in explanation("INFO:x:Testing executor connectivity\nERROR:x:Failed to add executor\n")


def test_the_difference_shows_what_a_miner_keeps():
    row = {"validator": "5old", "price": None}
    endpoint = (GPU["address"], GPU["port"])
    switched = difference({endpoint: row}, [of_dialect({**GPU, "price": 1.5}, "celium", None)])
    assert switched == {"before": "192.0.2.9:8001 for 5old\n", "after": "192.0.2.9:8001 for 5new\n"}
    priced = difference({endpoint: row}, [of_dialect({**GPU, "price": 1.5}, "lium", None)])
    assert priced["after"] == "192.0.2.9:8001 for 5old at 1.5 USD per GPU and hour\n"
    added = difference({}, [of_dialect({**GPU, "price": 1.5}, "lium", None)])
    assert added["after"] == "192.0.2.9:8001 for the default validator at 1.5 USD per GPU and hour\n"
