"""What ``--help`` says, and what it costs: the program itself is asked."""

import subprocess
import sys

import pytest


def ask(*arguments):
    """Return what the program does, with the modules that it loaded as the last line of stdout."""
    script = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules)); import celium_ops.cli.main as m; m.main()"
    )
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["deploy", "-h"], ["lab", "chain", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    done = ask(*arguments)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert (done.returncode, done.stderr) == (0, "")
    assert "celium_ops" in loaded
    assert not loaded & {"rich", "pydantic", "yaml", "asyncio", "bittensor", "ansible_runner", "fabric", "torch"}


def test_what_commands_do_is_not_cut_off():
    assert "..." not in ask("--help").stdout.partition("Commands:")[2].rpartition("\n")[0]


def test_examples_keep_their_lines():
    assert "\n  Examples:\n    celium-ops deploy -i inventory/fleet.yml\n" in ask("deploy", "--help").stdout


def test_a_group_without_a_command_shows_its_help():
    done = ask("assign")
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: celium-ops assign [OPTIONS] COMMAND")
    assert "Error" not in done.stderr


def test_a_wrong_option_is_an_error_and_no_help():
    done = ask("plan", "--nonsense")
    assert done.returncode == 2
    assert "--nonsense" in done.stderr
    assert "Usage:" not in done.stderr
