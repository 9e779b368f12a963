"""How long tasks may take, and what becomes of hosts whose task does not end."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
import yaml

from celium_ops.fleet.contract import all_variables
from celium_ops.runner import playbook, silence
from celium_ops.runner.playbook import TASK_LIMIT, environment, task_limit
from celium_ops.runner.recap import Recap
from celium_ops.runner.silence import LONGEST, MARGIN, Overdue, Silence

ROOT = Path(__file__).parents[2]
TASK_FILES = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml")]


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(clock):
    """Give the silence of a run whose tasks have 300 s."""
    return Silence(300, clock)


def event(kind, host="gpu-1", task="role : Task", **data):
    return {"event": kind, "event_data": {"host": host, "task": task, **data}}


def test_before_the_first_event_nothing_is_overdue(run, clock):
    clock.time += 1e6
    assert run.overdue() is None


def test_a_task_is_overdue_when_ansible_has_not_ended_it_a_while_after_its_limit(run, clock):
    run.feed(event("runner_on_start"))
    clock.time += 300 + MARGIN - 1
    assert run.overdue() is None
    clock.time += 1
    assert run.overdue() == {"gpu-1": Overdue("role : Task", 300 + MARGIN)}


def test_no_host_is_given_up_while_another_one_is_worked_on(run, clock):
    run.feed(event("runner_on_start"))
    clock.time += 1000
    run.feed(event("runner_on_start", "gpu-2", "role : Other"))
    clock.time += MARGIN
    assert run.overdue() is None
    run.feed(event("runner_on_ok", "gpu-2"))
    assert run.overdue() is None, "the host may have another task"
    clock.time += MARGIN
    assert run.overdue() == {"gpu-1": Overdue("role : Task", 1000 + 2 * MARGIN)}


@pytest.mark.parametrize("kind", ["runner_item_on_ok", "runner_item_on_failed", "runner_retry"])
def test_each_item_of_a_loop_and_each_try_has_the_whole_time(run, clock, kind):
    run.feed(event("runner_on_start"))
    for _ in range(5):
        clock.time += 300
        run.feed(event(kind))
    clock.time += MARGIN
    assert run.overdue() is None


def test_ansible_that_is_silent_between_tasks_is_overdue_itself(run, clock):
    run.feed(event("runner_on_start"))
    run.feed(event("runner_on_ok"))
    clock.time += 300 + MARGIN
    assert run.overdue() == {}


def test_a_task_that_says_how_long_it_may_take_has_that_time(run, clock, tmp_path):
    file = tmp_path / "tasks.yml"
    file.write_text(
        "- name: Long\n  timeout: 900 # a module\n  apt:\n    timeout: 5\n- name: As said\n  timeout: '{{ x }}'\n"
    )
    for line, limit in ((1, 900), (5, LONGEST)):
        run.feed(event("runner_on_start", task_path=f"{file}:{line}"))
        clock.time += limit + MARGIN - 1
        assert run.overdue() is None
        clock.time += 1
        assert run.overdue()


def test_facts_have_the_ordinary_time_whatever_stands_at_their_play(run, clock):
    site = f"{ROOT / 'playbooks' / 'site.yml'}:4"
    run.feed(event("runner_on_start", task_path=site, task_action="gather_facts"))
    clock.time += 300 + MARGIN
    assert run.overdue()


def tasks_of(node):
    """Yield every task of a file, as its node, blocks' own included."""
    for task in node.value:
        keys = {key.value: value for key, value in task.value}
        yield task.start_mark.line, keys
        for part in ("block", "rescue", "always"):
            if part in keys:
                yield from tasks_of(keys[part])


def limits():
    """Yield each task of our roles with where it begins and its limit as it is written, null for none."""
    for file in TASK_FILES:
        root = yaml.compose(file.read_text())
        for line, keys in tasks_of(root) if root else ():
            yield f"{file}:{line + 1}", keys["timeout"].value if "timeout" in keys else None, keys


def test_the_limit_of_every_task_of_ours_is_found_where_it_stands():
    found = 0
    for place, limit, _ in limits():
        known = silence._own_limit(place)
        assert known == (None if limit is None else float(limit) if limit.isdecimal() else LONGEST), place
        found += limit is not None
    assert found > 10


def test_only_tasks_have_limits_as_those_of_blocks_are_not_seen():
    assert [place for place, limit, keys in limits() if limit and "block" in keys] == []


def test_no_limit_of_ours_is_longer_than_the_longest():
    defaults = {name: variable.default for name, variable in all_variables().items()}
    compile_ = jinja2.Environment(autoescape=True).compile_expression
    for place, limit, _ in limits():
        if limit:
            assert int(compile_(limit.strip("{} "))(**defaults) if "{{" in limit else limit) <= LONGEST - MARGIN, place


def test_playbooks_have_the_same_limit_for_ansible_alone():
    wanted = f"{{{{ lookup('ansible.builtin.config', 'TASK_TIMEOUT') or {TASK_LIMIT} }}}}"
    plays = [play for file in (ROOT / "playbooks").glob("*.yml") for play in yaml.safe_load(file.read_text())]
    assert {play.get("timeout") for play in plays if "hosts" in play} == {wanted}


@pytest.mark.parametrize(
    ("said", "limit"), [(None, 300), ("", 300), ("0", 300), ("none", 300), ("45", 45), ("7200", 7200)]
)
def test_the_operators_limit_wins_and_none_is_no_limit(monkeypatch, said, limit):
    monkeypatch.delenv("ANSIBLE_TASK_TIMEOUT", raising=False)
    if said is not None:
        monkeypatch.setenv("ANSIBLE_TASK_TIMEOUT", said)
    assert (task_limit(), environment()["ANSIBLE_TASK_TIMEOUT"]) == (limit, str(limit))


@pytest.fixture
def recap():
    """Give a recap of four hosts: one that hangs, one that failed, one that is done, one whose task goes on."""
    recap = Recap()
    for name in ("hangs", "failed", "done"):
        recap.feed(event("runner_on_start", name))
    recap.feed(event("runner_on_failed", "failed", res={"msg": "no space left"}))
    recap.feed(event("runner_on_ok", "done", res={}))
    return recap


def test_of_hosts_that_do_not_wait_for_each_other_only_those_that_hang_fail(recap):
    playbook._give_up(recap, {"hangs": Overdue("role : Task", 361.4)}, independent=True)
    assert {name: (host.result, host.error) for name, host in recap.hosts.items()} == {
        "hangs": ("failed", "role : Task: the task did not end in 361 s"),
        "failed": ("failed", "role : Task: no space left"),
        "done": ("ok", None),
    }


@pytest.mark.parametrize(("overdue", "who"), [({"hangs": Overdue("role : Task", 361)}, "hangs"), ({}, "Ansible")])
def test_others_are_not_finished(recap, overdue, who):
    playbook._give_up(recap, overdue, independent=not overdue)
    done = recap.hosts["done"]
    assert (done.result, done.error) == ("failed", f"was not finished: {who} did not answer, so Ansible was ended")


def test_a_task_that_took_too_long_says_so(recap):
    recap.feed(event("runner_on_failed", "hangs", res={"msg": "Timed out", "timedout": {"period": 300, "frame": "x"}}))
    assert recap.hosts["hangs"].error == "role : Task: the task did not end in 300 s"


@pytest.mark.parametrize("timed_out", ["x", 5, [1], {"period": {}}, {}])
def test_what_a_module_says_of_it_is_not_believed(recap, timed_out):
    recap.feed(event("runner_on_failed", "hangs", res={"msg": "words", "timedout": timed_out}))
    assert recap.hosts["hangs"].error == "role : Task: words"
