"""What OpenSSH makes of a connection and of known_hosts files; its own programs answer."""

import subprocess

import pytest

from celium_ops.base.errors import CeliumError
from celium_ops.fleet.model import Connection
from celium_ops.remote.host_keys import HostKey, _known_first, known_hosts_file, known_keys, record
from celium_ops.remote.openssh import proxy_command, resolve


def new_key(folder, name="key", kind="ed25519"):
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(folder / name)]
    subprocess.run(command, check=True)
    return HostKey(*(folder / f"{name}.pub").read_text().split()[:2])


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "a fleet"
    folder.mkdir()
    return folder / "known_hosts"


def options(file, *arguments, address="192.0.2.1", **more):
    # No configuration file: the machine's own must not matter here.
    words = ["-F none", f"-o 'UserKnownHostsFile=\"{file}\"'", "-o GlobalKnownHostsFile=/dev/null", *arguments]
    return resolve(Connection(address, arguments=" ".join(words), **more))


def test_a_fingerprint_is_the_one_that_ssh_keygen_shows(tmp_path):
    key = new_key(tmp_path)
    shown = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "key")], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[1] == key.fingerprint


@pytest.mark.parametrize(
    ("arguments", "more", "name"),
    [
        ((), {}, "192.0.2.1"),
        ((), {"port": 2222}, "[192.0.2.1]:2222"),
        (("-o HostName=gpu.example",), {}, "gpu.example"),
        (("-o HostKeyAlias=gpu",), {"port": 2222}, "gpu"),
    ],
)
def test_a_host_is_known_by_the_name_that_openssh_uses(file, arguments, more, name):
    key = new_key(file.parent)
    file.write_text(f"other {key.type} wrong\n{name} {key.type} {key.text}\n")
    assert known_keys(options(file, *arguments, **more)).keys == (key,)


def test_hashes_patterns_and_marks_are_read_as_openssh_reads_them(file):
    plain, pattern, revoked, authority = (new_key(file.parent, name) for name in ("a", "b", "c", "d"))
    file.write_text(f"192.0.2.1 {plain.type} {plain.text}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "192.0.2.1" not in file.read_text()
    with file.open("a") as stream:
        stream.write(f"192.0.2.* {pattern.type} {pattern.text}\n")
        stream.write(f"@revoked 192.0.2.1 {revoked.type} {revoked.text}\n")
        stream.write(f"@cert-authority 192.0.2.* {authority.type} {authority.text}\n")
    known = known_keys(options(file))
    assert (known.keys, known.revoked) == ((plain, pattern), (revoked,))


def test_nothing_is_known_without_a_file(file):
    assert known_keys(options(file)).keys == ()


def test_recording_adds_replaces_and_keeps_the_rest(file):
    old, new = new_key(file.parent, "old"), new_key(file.parent, "new")
    record(file, [f"192.0.2.1 {old.type} {old.text}"], [])
    assert file.stat().st_mode & 0o777 == 0o644
    file.chmod(0o600)
    file.write_text(f"# the rack in Berlin\n{file.read_text()}192.0.2.2 {old.type} {old.text}")
    record(file, [f"192.0.2.1 {new.type} {new.text}"], ["192.0.2.1"])
    assert file.read_text().splitlines() == [
        "# the rack in Berlin",
        f"192.0.2.2 {old.type} {old.text}",
        f"192.0.2.1 {new.type} {new.text}",
    ]
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in file.parent.iterdir() if "known_hosts" in path.name) == ["known_hosts"]


def test_recording_keeps_a_link(file, tmp_path):
    target = tmp_path / "elsewhere"
    file.symlink_to(target)
    record(file, ["192.0.2.1 ssh-ed25519 A"], [])
    assert file.is_symlink()
    assert target.read_text() == "192.0.2.1 ssh-ed25519 A\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CeliumError, match=r"cannot write .*/file/known_hosts: "):
        record(tmp_path / "file" / "known_hosts", ["x"], [])


@pytest.mark.parametrize("file", ["/dev/null", "none"])
def test_a_fleet_that_forgets_its_host_keys_cannot_be_trusted(file):
    with pytest.raises(CeliumError, match="keep no host keys"):
        known_hosts_file(options(file))


def test_the_types_that_are_known_are_asked_for_first():
    algorithms = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"]
    assert _known_first(algorithms, []) == algorithms
    known = [HostKey("ssh-rsa", "x")]
    assert _known_first(algorithms, known) == ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519", "ecdsa-sha2-nistp256"]


def test_arguments_that_ssh_does_not_understand_are_named(file):
    with pytest.raises(CeliumError, match="Bad configuration option: nosuch"):
        options(file, "-o NoSuch=1")


def test_a_jump_is_made_by_ssh_itself(file):
    jump = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=8"]
    end = ["-W", "[192.0.2.1]:2222", "--"]
    assert proxy_command(options(file)) is None
    assert proxy_command(options(file, "-o ProxyJump=none")) is None
    own = ["-F", "none"]
    assert proxy_command(options(file, "-o ProxyJump=ops@bastion:23", port=2222)) == [
        *jump, *own, *end, "ssh://ops@bastion:23",
    ]  # fmt: skip
    assert proxy_command(options(file, "-J first,ssh://second", port=2222)) == [
        *jump, *own, "-J", "first", *end, "ssh://second",
    ]  # fmt: skip


def test_a_proxy_command_gets_its_tokens(file):
    found = options(file, "-o ProxyCommand='nc -x proxy %h %p # 100%% %r'", port=2222, user="ops")
    assert proxy_command(found) == ["sh", "-c", "exec nc -x proxy 192.0.2.1 2222 # 100% ops"]
    with pytest.raises(CeliumError, match="%C in"):
        proxy_command(options(file, "-o ProxyCommand='nc %C'"))
