import shlex

from celium_ops.remote.ssh import Target, ssh_command


def test_host_keys_are_checked_unless_the_inventory_decides():
    assert "StrictHostKeyChecking=yes" in ssh_command(Target("h"), ["true"])
    own = ssh_command(Target("h", arguments="-o StrictHostKeyChecking=accept-new"), ["true"])
    assert [word for word in own if word.startswith("StrictHostKeyChecking")] == ["StrictHostKeyChecking=accept-new"]


def test_everything_of_the_inventory_is_used():
    target = Target("gpu", 2222, "ops", "/key", "-o ProxyJump=bastion", become=True)
    words = ssh_command(target, ["python3", "-"])
    assert words[-3:] == ["--", "gpu", "sudo -n python3 -"]
    for pair in (["-p", "2222"], ["-l", "ops"], ["-i", "/key"], ["-o", "ProxyJump=bastion"]):
        assert shlex.join(pair) in shlex.join(words)


def test_an_argument_with_a_space_reaches_the_host_as_one():
    assert ssh_command(Target("h"), ["echo", "a b; reboot"])[-1] == "echo 'a b; reboot'"


def test_an_address_that_looks_like_an_option_is_none():
    assert ssh_command(Target("-oProxyCommand=x"), ["true"])[-3:] == ["--", "-oProxyCommand=x", "true"]
