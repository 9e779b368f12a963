import shlex
import subprocess

from celium_ops.remote.ssh import Target, ssh_command


def test_host_keys_are_checked_unless_the_inventory_decides():
    assert "StrictHostKeyChecking=yes" in ssh_command(Target("h"), ["true"])
    own = ssh_command(Target("h", arguments="-o StrictHostKeyChecking=accept-new"), ["true"])
    assert [word for word in own if word.startswith("StrictHostKeyChecking")] == ["StrictHostKeyChecking=accept-new"]


def test_everything_of_the_inventory_is_used():
    words = ssh_command(Target("gpu", 2222, "ops", "/key", "-o ProxyJump=bastion"), ["python3", "-"])
    assert words[-3:-1] == ["--", "gpu"]
    for pair in (["-p", "2222"], ["-l", "ops"], ["-i", "/key"], ["-o", "ProxyJump=bastion"]):
        assert shlex.join(pair) in shlex.join(words)


def test_an_argument_with_a_space_reaches_the_host_as_one(tmp_path):
    # A sudo that is none, so that the test is the same for root and for others.
    (tmp_path / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    script = ssh_command(Target("h"), ["printf", "%s|", "a b; reboot"])[-1]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=path, capture_output=True, text=True, check=True)
    assert done.stdout == "a b; reboot|"


def test_an_address_that_looks_like_an_option_is_none():
    assert ssh_command(Target("-oProxyCommand=x"), ["true"])[-3:-1] == ["--", "-oProxyCommand=x"]
