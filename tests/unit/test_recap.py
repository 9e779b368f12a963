"""From events to results: what an operator reads after a run."""

import pytest

from celium_ops.runner.recap import Recap
from celium_ops.workflows.outcomes import outcome_of


def event(kind, host="gpu-1", task="role : Phase | Task", second=0, **data):
    return {
        "event": kind,
        "created": f"2026-11-20T10:00:{second:02d}+00:00",
        "event_data": {"host": host, "task": task, **data},
    }


def stats(**counts):
    return {"event": "playbook_on_stats", "event_data": counts}


def recap_of(*events):
    recap = Recap()
    for one in events:
        recap.feed(one)
    return recap.hosts


def test_changes_and_time_are_counted():
    host = recap_of(
        event("runner_on_start"),
        event("runner_on_ok", second=2, res={"changed": True}),
        event("runner_on_ok", second=5, res={"changed": False}),
        stats(ok={"gpu-1": 2}),
    )["gpu-1"]
    assert (host.result, host.changed, host.done, host.seconds) == ("ok", 1, 2, 5.0)


def test_changes_that_a_task_hides_are_counted():
    """ansible-runner takes even the flag out of the result of a task with no_log; Ansible's own statistics have it."""
    hidden = {"censored": "the output has been hidden due to the fact that 'no_log: true' was specified"}
    seen = event("runner_on_ok", res={"changed": True})
    host = recap_of(seen, event("runner_on_ok", res=hidden), stats(ok={"gpu-1": 2}, changed={"gpu-1": 2}))["gpu-1"]
    assert host.changed == 2
    host = recap_of(seen, event("runner_on_ok", res=hidden), stats(ok={"gpu-1": 2}, changed={"gpu-1": 1}))["gpu-1"]
    assert host.changed == 1


def test_the_role_of_a_host_is_its_own_whatever_another_host_plays():
    ops = "/opt/roles/venv/ansible_collections/celium/ops"
    host = recap_of(
        event("runner_on_ok", task_path=f"{ops}/roles/common/tasks/main.yml:3", role="celium.ops.common"),
        event("runner_on_ok", task_path=f"{ops}/playbooks/site.yml:19", role="miner"),
    )["gpu-1"]
    assert host.role == "common"


def test_a_failure_names_the_task_and_the_reason():
    host = recap_of(event("runner_on_failed", res={"msg": "no space left"}), stats(failures={"gpu-1": 1}))["gpu-1"]
    assert (host.result, host.error) == ("failed", "role : Phase | Task: no space left")


def test_the_reason_given_by_a_rescue_wins():
    host = recap_of(
        event("runner_on_failed", res={"msg": "compose failed"}),
        event("runner_on_failed", task="Say why", res={"msg": "the database is full"}),
        stats(failures={"gpu-1": 1}, rescued={"gpu-1": 1}),
    )["gpu-1"]
    assert host.error == "Say why: the database is full"


def test_a_rescue_keeps_the_code_of_what_failed():
    failed = event("runner_on_failed", res={"msg": "a tenant's", "code": "tenant-in-stack"})
    events = [failed, event("runner_on_failed", task="Say why", res={"msg": "the stack: a tenant's"})]
    assert recap_of(*events, stats(failures={"gpu-1": 1}))["gpu-1"].code == "tenant-in-stack"
    assert recap_of(*events, stats(rescued={"gpu-1": 1}))["gpu-1"].code is None


@pytest.mark.parametrize(
    "said", [None, 5, "x", [None], [{"name": "x"}], [{"kind": 1, "name": "", "why": "", "until": ""}]]
)
def test_what_waits_is_taken_only_from_an_answer_that_is_one(said):
    recap = Recap()
    recap.feed(event("runner_on_ok", task_action="celium.ops.record", res={"waits": said}))
    recap.feed(stats(ok={"gpu-1": 1}))
    assert outcome_of("gpu-1", recap).waits == []


def test_what_waits_for_a_tenant_is_in_the_result_of_a_host():
    wait = {"kind": "container", "name": "executor-db-1", "why": "is recreated", "until": "it is rented (pod_1)"}
    recap = Recap()
    recap.feed(event("runner_on_ok", task_action="celium.ops.record", res={"waits": [{**wait, "of": "executor"}]}))
    recap.feed(stats(ok={"gpu-1": 1}))
    assert outcome_of("gpu-1", recap).waits == [wait]


def test_a_rescued_host_is_fine():
    host = recap_of(event("runner_on_failed", res={"msg": "x"}), stats(ok={"gpu-1": 3}, rescued={"gpu-1": 1}))["gpu-1"]
    assert (host.result, host.error) == ("ok", None)


def test_a_host_that_came_up_and_then_went_away_is_unreachable():
    host = recap_of(
        event("runner_on_ok", res={"changed": True}),
        event("runner_on_unreachable", res={"msg": "Connection timed out"}),
        stats(ok={"gpu-1": 1}, dark={"gpu-1": 1}),
    )["gpu-1"]
    assert (host.result, host.error) == ("unreachable", "Connection timed out")


def test_one_host_does_not_colour_another():
    hosts = recap_of(
        event("runner_on_unreachable", host="gpu-1", res={"msg": "dead"}),
        event("runner_on_ok", host="gpu-2", res={}),
        stats(dark={"gpu-1": 1}, ok={"gpu-2": 1}),
    )
    assert [host.result for host in hosts.values()] == ["unreachable", "ok"]


REASONS = [
    ({"msg": "non-zero return code", "stderr": "dpkg was interrupted"}, "dpkg was interrupted"),
    ({"msg": "", "stdout": "only on stdout"}, "only on stdout"),
    ({"censored": "hidden", "changed": False}, "its output is hidden"),
    ({"results": [{"failed": False}, {"failed": True, "msg": "second item"}]}, "second item"),
    ({"msg": "Validation failed", "argument_errors": ["port is of type str"]}, "port is of type str"),
    ({}, "no reason given"),
]


@pytest.mark.parametrize(("result", "expected"), REASONS)
def test_the_reason_is_the_modules_own(result, expected):
    host = recap_of(event("runner_on_failed", res=result), stats(failures={"gpu-1": 1}))["gpu-1"]
    assert expected in host.error


def test_when_ansible_dies_whoever_was_not_finished_has_failed():
    recap = Recap()
    recap.feed(event("runner_on_ok", host="gpu-1"))
    recap.feed(event("runner_on_unreachable", host="gpu-2", res={"msg": "no route"}))
    assert not recap.closed
    recap.give_up("Ansible ended early")
    assert [(host.result, host.error) for host in recap.hosts.values()] == [
        ("failed", "Ansible ended early"),
        ("unreachable", "no route"),
    ]


def test_results_of_the_registry_are_kept():
    recap = Recap()
    result = {"executors": [{"name": "gpu-1", "registered": True}]}
    recap.feed(event("runner_on_ok", host="miner-1", task_action="celium.ops.miner_registry", res=result))
    assert recap.outputs == {"celium.ops.miner_registry": {"miner-1": result}}
