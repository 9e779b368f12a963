"""The pure parts of the module apt_source: keys and source files. What apt thinks of them is tested in the lab."""

import base64
from pathlib import Path

import pytest
from ansible_collections.celium.ops.plugins.modules.apt_source import (
    FOOTER,
    HEADER,
    UnusableError,
    armoured,
    checked_key,
    keys_in,
    without,
)

from celium_ops.fleet.contract import all_variables

# The key of download.docker.com, as Docker publishes it.
DOCKER = (Path(__file__).parent / "data" / "docker.asc").read_text()
PUBLISHED = all_variables()["nvidia_docker_key_fingerprint"].default


def block(content):
    return f"{HEADER}\nComment: x\n\n{base64.b64encode(content).decode()}\n{FOOTER}\n"


def other_key(length=b"\x06"):
    """Return a key that is as small as can be: a packet of the new format, with the version and a creation time."""
    return b"\xc6" + length + b"\x04\x00\x00\x00\x00\x01"


def test_the_default_fingerprint_is_that_of_dockers_key():
    key = checked_key(DOCKER, "there", PUBLISHED)
    assert armoured(key).decode() == DOCKER
    assert checked_key(DOCKER.replace("\n", "\r\n"), "there", PUBLISHED) == key


def test_only_the_wanted_one_of_several_keys_is_taken():
    key = checked_key(DOCKER, "there", PUBLISHED)
    for text in (DOCKER + block(other_key()), block(other_key()) + DOCKER, block(key + other_key())):
        assert checked_key(text, "there", PUBLISHED) == key
        assert len(keys_in(text)) == 2


@pytest.mark.parametrize("length", [b"\x06", b"\xff\x00\x00\x00\x06"])
def test_every_form_of_a_length_is_read(length):
    assert list(keys_in(block(other_key(length)))) == list(keys_in(block(other_key())))


REFUSED = [
    (block(other_key()), PUBLISHED, "has the fingerprint .*, not 9DC8"),
    (DOCKER, PUBLISHED[:-1], "no fingerprint"),
    ("<html>", PUBLISHED, "no ASCII-armoured key"),
    (block(b""), PUBLISHED, "no ASCII-armoured key"),
    (block(b"plain text"), PUBLISHED, "no OpenPGP packet"),
    (block(other_key()[:-1]), PUBLISHED, "ends too early"),
    (block(b"\xc6"), PUBLISHED, "not a signing key"),
    (block(b"\xcd\x01x" + other_key()), PUBLISHED, "without its beginning"),
    (block(b"\xc6\x01\x06"), PUBLISHED, "another version"),
]


@pytest.mark.parametrize(("text", "fingerprint", "why"), REFUSED)
def test_what_is_not_the_wanted_key_is_refused(text, fingerprint, why):
    with pytest.raises(UnusableError, match=why):
        checked_key(text, "there", fingerprint)


URI, SUITE = "https://mirror.invalid/ubuntu", "noble"
LINES = [
    (f"deb {URI} noble stable\n", ""),
    (
        f"# mine\ndeb [arch=amd64 signed-by=/a.gpg] {URI}/ noble stable\ndeb http://b noble x\n",
        "# mine\ndeb http://b noble x\n",
    ),
    (f"deb-src {URI} noble stable", ""),
    (f"deb {URI} jammy stable\n# deb {URI} noble stable\n", None),
    (f"deb {URI}-archive noble stable\n", None),
    ("", None),
]
STANZA = "Types: deb\nURIs: {}\nSuites: {}\nSigned-By:\n -----BEGIN\n .\n x\n"
OURS, THEIRS = STANZA.format(URI + "/", "noble"), STANZA.format("http://b", "noble")
STANZAS = [
    (OURS, ""),
    (f"{THEIRS}\n{OURS}", f"{THEIRS}\n"),
    (f"{OURS}\n \n{THEIRS}", THEIRS),
    (STANZA.format(URI, "noble jammy"), None),
    (THEIRS, None),
]


@pytest.mark.parametrize(
    ("text", "left", "deb822"), [(*case, False) for case in LINES] + [(*case, True) for case in STANZAS]
)
def test_other_sources_of_the_repository_go_and_nothing_else(text, left, deb822):
    assert without(text, URI, SUITE, deb822) == (text if left is None else left)
