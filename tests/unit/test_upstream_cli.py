"""What is made of the words of upstream's command line: its collateral, and why it failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.celium.ops.plugins.module_utils import upstream_cli
from ansible_collections.celium.ops.plugins.module_utils.upstream_cli import (
    LONGEST,
    LONGEST_ERROR,
    collaterals,
    explanation,
)
from hypothesis import given
from hypothesis import strategies as st

TOTAL = "Total miner collateral from all executors"
ROWS = [{"address": "192.0.2.1", "port": 8001, "uuid": "u-1"}, {"address": "192.0.2.2", "port": 8001, "uuid": "u-2"}]
EACH = "INFO:root:Executor u-1 collateral: 1.000000 TAO\nINFO:root:Executor u-2 collateral: 1.000000 TAO\n"
FIELDS = {
    "hotkey": "5Hot",
    "contract_address": "0x999F",
    "network": "finney",
    "rpc_url": "https://user:hunter22@rpc.example.com:8443/v3/0123456789abcdef?token=sesame99",
}
ADD = {"coro_name": "create", "task_id": 139642, "executor_id": "u-1", "url": "http://192.0.2.1:8001/upload_ssh_key"}


def logged(text, **fields):
    return f"ERROR:root:{text} >>> {json.dumps(fields)}\n"


@pytest.mark.parametrize(
    ("said", "total"),
    [
        (f"{EACH}INFO:root:{TOTAL}: 2.000000 TAO\n", 2.0),
        (f"INFO:pdm.termui:Inside a venv\nINFO:root:{TOTAL}: 0.000000 TAO\n", 0.0),
        (f"{TOTAL}: 1500.000000 TAO\r\n", 1500.0),
        # What only the stand-in of before said, and what no version says.
        ("INFO:root:Total miner collateral: 2.000000 TAO\n", None),
        (f"INFO:root:{TOTAL}: 2.0e3 TAO\n", None),
        (f"INFO:root:{TOTAL}: -1.000000 TAO\n", None),
        (f"INFO:root:{TOTAL}: nan TAO\n", None),
        (f"INFO:root:{TOTAL}: 1,500.0 TAO\n", None),
        (f"INFO:root:{TOTAL}: {'9' * 400} TAO\n", None),
        (f"INFO:root:{TOTAL}: 2.000000 TAOs\n", None),
        (f"INFO:root:it said {TOTAL}: 0.000000 TAO\n", None),
        (f"INFO:root:{TOTAL}: 0.000000 TAO\nINFO:root:{TOTAL}: 2.000000 TAO\n", None),
        (logged("❌ Failed in getting miner collateral", error=f"\n{TOTAL}: 0.000000 TAO\n"), None),
        (EACH, None),
        ("", None),
    ],
)
def test_the_total_is_known_only_when_upstream_says_it(said, total):
    assert upstream_cli.total_collateral(said) == total


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """Let ``docker`` log what a test wants of it, by the command that it runs in the miner's container."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\necho "$7 $9" >> {tmp_path}/asked\ncat "{tmp_path}/$7$9" >&2\n')
    program.chmod(0o755)

    def says(total, **single):
        (tmp_path / "get-miner-collateral").write_text(total, "utf-8")
        for number, text in single.items():
            (tmp_path / f"get-executor-collateral192.0.2.{number[1:]}").write_text(text, "utf-8")
        answer = collaterals(ROWS)
        return answer, sorted((tmp_path / "asked").read_text().split("\n")[1:-1])

    return says


def single(uuid, tao):
    return f"INFO:root:Executor {uuid} collateral: {tao:f} TAO from collateral contract\n"


def test_a_total_of_zero_is_one_question(upstream):
    assert upstream(f"INFO:root:{TOTAL}: 0.000000 TAO\n") == ((None, [(0.0, None)] * 2), [])


def test_with_a_total_each_executor_is_asked_for_and_one_that_cannot_be_read_is_unknown(upstream):
    failed = logged("❌ Failed to get executor collateral", **FIELDS, error="Cannot connect to host rpc.example.com")
    (unreadable, amounts), asked = upstream(f"{EACH}INFO:root:{TOTAL}: 2.000000 TAO\n", u1=single("u-1", 2), u2=failed)
    why = "upstream said: Failed to get executor collateral: Cannot connect to host rpc.example.com"
    assert (unreadable, amounts) == (None, [(2.0, None), (None, why)])
    assert asked == [f"get-executor-collateral 192.0.2.{number}" for number in (1, 2)]


def test_with_an_unreadable_total_nothing_is_known_and_it_is_said_why(upstream):
    failed = logged("❌ Failed in getting miner collateral", **FIELDS, error="Cannot connect to host x:443")
    failed += "ERROR:__main__:❌ Failed in getting miner collateral.\n"
    answer, asked = upstream(failed)
    assert answer == ("upstream said: Failed in getting miner collateral: Cannot connect to host x:443", [])
    assert asked == []


def test_its_words_are_read_whatever_the_encoding_of_the_host(upstream):
    assert upstream("ERROR:root:❌ no\n")[0] == ("upstream said: no", [])
    program = f"{Path(upstream_cli.__file__).read_text()}\nprint(collaterals([])[0])"
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-X", "utf8=0", "-"]
    done = subprocess.run(command, input=program, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("upstream said: no\n", "")


EXPLAINED = [
    (logged("❌ Failed to deposit", **FIELDS, error="execution reverted"), "Failed to deposit: execution reverted"),
    (logged("❌ Failed to deposit", **FIELDS), "Failed to deposit"),
    (
        logged("API request failed", **ADD, status=500, error="oops\x1b[31m\n!"),
        "API request failed: status 500: oops [31m !",
    ),
    (
        logged("API request failed", **ADD, status=401, error='"Unauthorized"')
        + "ERROR:services.executor_service:Failed to send SSH key - Please check\n"
        + "ERROR:__main__:❌ Failed to add executor or deposit collateral.\n",
        "API request failed: it obeys another hotkey (status 401); Failed to send SSH key - Please check; "
        "Failed to add executor or deposit collateral.",
    ),
    # Said twice, once with the reason.
    (
        logged("❌ Failed in getting", error="x") + "ERROR:__main__:❌ Failed in getting.\n",
        "Failed in getting: x",
    ),
    # What is no JSON object is not shown, unless it is no JSON at all.
    ('ERROR:root:text >>> {"rpc_url": "https://rpc.example.com/0123456789abcdef\n', "text"),
    (f"ERROR:root:text >>> {'[' * 50_000}\n", "text >>> " + "[" * (LONGEST_ERROR - 12) + "..."),
    (f'ERROR:root:text >>> {{"error": {"[" * 50_000}\n', "text"),
    ('ERROR:root:text >>> {"error": {"rpc_url": "secret"}, "status": true}\n', "text"),
    ("ERROR:root:a >>> b\n", "a >>> b"),
    # Addresses are named by their host.
    (logged("x", error="401, url='https://rpc.example.com/v3/0123'"), "x: 401, url='https://rpc.example.com'"),
    (
        logged("x", error="HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /v3/0123 (Caused"),
        "x: HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: ... (Caused",
    ),
    ("sqlalchemy.exc.ArgumentError: postgresql://postgres:p/w@db/x\n", "sqlalchemy.exc.ArgumentError: postgresql://db"),
    (logged("x", **FIELDS, error="no project 0123456789abcdef"), "x: no project ..."),
    (
        logged("x", status=500, error="y" * 1000) + "ERROR:a:z\n",
        "x: status 500: " + "y" * (LONGEST_ERROR - 18) + "...; z",
    ),
    (logged("x", error="y" * 1000), "x: " + "y" * (LONGEST_ERROR - 6) + "..."),
]


@pytest.mark.parametrize(("said", "why"), EXPLAINED)
def test_an_error_is_explained_by_its_reason_alone(said, why):
    assert explanation(said) == why


ANYTHING = st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=3)


@given(
    st.text(max_size=30),
    ANYTHING,
    ANYTHING,
    st.sampled_from(["{url}", "for {url}: no", "key {key}", "with url: /v3/{key}"]),
)
def test_no_field_but_the_error_is_shown_and_never_the_endpoints_key(text, other, status, form):
    key = "0123456789abcdefghij"
    url = f"https://me:{key}@rpc.example.com/v3/{key}?k={key}"
    fields = {"rpc_url": url, "other": ["SECRET", other], "status": status, "error": form.format(url=url, key=key)}
    for document in (json.dumps(fields), json.dumps(fields)[:-1], json.dumps([fields])[1:]):
        said = explanation(f"ERROR:root:{text.replace(chr(10), '')} >>> {document}\n")
        assert key not in said
        assert "SECRET" not in said
        assert len(said) <= LONGEST
        assert said.isprintable()


@given(
    st.text()
    | st.lists(st.sampled_from(["ERROR:", "a:", ">>>", " >>> {", '"error":', "://", "@", "\n", "x"])).map("".join)
)
def test_any_words_are_explained_in_one_line(said):
    found = explanation(said)
    assert len(found) <= LONGEST
    assert found.isprintable()
