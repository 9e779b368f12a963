"""Values of the inventory as they arrive in the process inside a container, under every Compose version of the lab."""

from __future__ import annotations

import json

import pytest
from ansible_collections.celium.ops.plugins.filter.env_value import env_value
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

NASTY = [
    "plain",
    "two words",
    " around ",
    "it's",
    'say "hi"',
    "$HOME ${HOME} $$",
    "back\\slash \\n \\$ \\\\",
    "# no comment",
    "a #b",
    "both ' and \"",
    "' \\' \" $X \\",
    "käse ✓",
    "!&;|<>()`~%=",
    "tab\tinside",
    "[[1, 2], [3, 4]]",
    "\\",
    "trailing\\",
    "'",
    '"',
    "",
]

# Everything but a line feed and a NUL, which no environment file can carry, and lone surrogates, which are no text.
ANYTHING = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module", params=["executor-1", "executor-2"])
def arrive(request, deployed):
    """Give what sends values through an env_file and returns those in the environment of the process."""
    host = request.param
    image = deployed.on(host, "docker inspect -f '{{.Config.Image}}' executor-monitor-1")
    # Into a file: of what a process writes to an attached stream, the last may be lost when it ends at once.
    service = {"image": image, "env_file": ["values.env"], "volumes": [".:/out"]}
    service["entrypoint"] = ["cp", "/proc/self/environ", "/out/environ"]
    compose = json.dumps({"name": "env", "services": {"a": service}})
    deployed.on(host, f"mkdir -p /tmp/env; cat > /tmp/env/compose.yml <<'END'\n{compose}\nEND")

    def send(values):
        text = "".join(f"V{number}={env_value(value)}\n" for number, value in enumerate(values))
        command = "cd /tmp/env && rm -f environ && cat > values.env && docker compose run --rm -T a >&2 && cat environ"
        entries = deployed.lab.pipe(host, command, text.encode()).split(b"\0")
        seen = dict(entry.split(b"=", 1) for entry in entries if entry)
        return [seen.get(f"V{number}".encode(), b"(not there)").decode() for number in range(len(values))]

    yield send
    deployed.on(host, "docker network rm env_default; rm -r /tmp/env")


# One example is many values at once: starting a container is what costs.
@settings(max_examples=8, derandomize=True, suppress_health_check=list(HealthCheck))
@given(values=st.lists(ANYTHING, min_size=50, max_size=300))
@example(values=NASTY)
def test_every_value_reaches_the_process_as_it_was_written(arrive, values):
    assert arrive(values) == values


@pytest.mark.parametrize("value", ["two\nlines", "nul\0inside"])
def test_what_no_environment_file_can_carry_is_refused(value):
    with pytest.raises(ValueError, match="line break or NUL"):
        env_value(value)
