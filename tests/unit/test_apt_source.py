"""The pure parts of the module apt_source: keys and source files. What apt thinks of them is tested in the lab."""

import base64
from pathlib import Path

import pytest
from ansible_collections.celium.ops.plugins.module_utils.openpgp import (
    FOOTER,
    HEADER,
    armoured,
    keys_in,
    names_of,
    unarmoured,
)
from ansible_collections.celium.ops.plugins.module_utils.source_files import is_idle, without
from ansible_collections.celium.ops.plugins.modules.apt_source import (
    PARTS,
    SOURCES,
    UnusableError,
    checked_key,
    planned_sources,
    superfluous,
)
from hypothesis import given
from hypothesis import strategies as st

from celium_ops.fleet.contract import all_variables, computed_variables

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


KEYRING = "/etc/apt/keyrings/docker.asc"
DOCKERS = {
    "name": "docker",
    "uri": "https://download.docker.com/linux/ubuntu",
    "suite": "noble",
    "components": ["stable"],
    "keyring": KEYRING,
    "legacy": computed_variables("nvidia_docker")["_nvidia_docker_engine"]["vendor"]["repository"]["legacy"],
}
NVIDIAS = {
    "name": "nvidia-container-toolkit",
    "uri": "https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH)",
    "suite": "/",
    "components": [],
    "keyring": "/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg",
    "legacy": computed_variables("nvidia_docker")["_nvidia_docker_toolkit"]["repository"]["legacy"],
}
NVIDIA = "https://nvidia.github.io"
DEBIAN = "deb http://deb.debian.org/debian bookworm main\n"
STANZA = "Types: deb\nURIs: {}\nSuites: {}\nComponents: stable\n"
PPA = STANZA.format("https://ppa.launchpadcontent.net/x/y/ubuntu", "noble")
INLINE = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n"


def docker_line(options="", scheme="https", host="download.docker.com", end="", suite="noble", rest="stable"):
    return f"deb {options}{scheme}://{host}/linux/ubuntu{end} {suite} {rest}\n"


# What instructions, tools and people left on hosts, and what has to stay of it; None: all of it.
LINES = [
    # Docker's instructions since 2017, 2020, 2022, and add-apt-repository's file of them.
    (docker_line(), ""),
    (docker_line("[arch=amd64] "), ""),
    (docker_line("[arch=amd64 signed-by=/usr/share/keyrings/docker-archive-keyring.gpg] "), ""),
    (docker_line("[arch=amd64 signed-by=/etc/apt/keyrings/docker.gpg] "), ""),
    (docker_line("[ arch=amd64 signed-by=/a.gpg,/b.gpg ] "), ""),
    ("deb [arch=amd64 signed-by=/a.gpg]   \thttps://download.docker.com/linux/ubuntu \t noble   stable", ""),
    (docker_line() + "# deb-src https://download.docker.com/linux/ubuntu noble stable\n", "# deb-src ..."),
    ("deb-src [arch=amd64] https://download.docker.com/linux/ubuntu noble stable", ""),
    # Other ways to write the same place, and what an upgrade of the system left.
    (docker_line(end="/"), ""),
    (docker_line(scheme="http"), ""),
    (docker_line(host="Download.Docker.com"), ""),
    (docker_line(suite="jammy"), ""),
    (docker_line(rest="stable test # for 29"), ""),
    ("deb https://apt.dockerproject.org/repo ubuntu-xenial main\n", ""),
    # Beside what is somebody else's.
    (f"# mine\n{DEBIAN}{docker_line()}\n{DEBIAN}", f"# mine\n{DEBIAN}\n{DEBIAN}"),
    (DEBIAN + docker_line().rstrip(), DEBIAN),
    # Other places.
    (docker_line(end="-archive"), None),
    ("deb https://download.docker.com/linux/Ubuntu noble stable\n", None),
    (docker_line(host="mirror.invalid"), None),
    ("deb https://download.docker.com/linux/debian bookworm stable\n", None),
    (f"# {docker_line()}#deb https://download.docker.com/linux/ubuntu noble stable\n", None),
    ("deb cdrom:[Debian GNU/Linux 12]/ bookworm main\n", None),
    ("debris https://download.docker.com/linux/ubuntu noble stable\n", None),
    ("", None),
]
STANZAS = [
    # Docker's instructions since 2025, and apt modernize-sources.
    (STANZA.format("https://download.docker.com/linux/ubuntu", "noble") + f"Signed-By: {KEYRING}\n", ""),
    (STANZA.format("https://download.docker.com/linux/ubuntu/", "noble jammy") + INLINE, ""),
    ("types: deb\nuris: http://download.docker.com/linux/ubuntu\nsuites: noble\ncomponents: stable\n", ""),
    (f"# Modernized from docker.list\n{STANZA.format('https://download.docker.com/linux/ubuntu', 'noble')}", ""),
    (f"{PPA}\n{STANZA.format('https://download.docker.com/linux/ubuntu', 'noble')}", f"{PPA}\n"),
    (f"{STANZA.format('https://download.docker.com/linux/ubuntu', 'noble')}\n \n{PPA}", PPA),
    # One of several places of a stanza.
    (
        STANZA.format("http://b https://download.docker.com/linux/ubuntu\n http://c", "noble") + INLINE,
        STANZA.format("http://b http://c", "noble") + INLINE,
    ),
    (
        STANZA.format("\n https://download.docker.com/linux/ubuntu\n#was: x\n http://c", "noble"),
        STANZA.format("http://c", "noble"),
    ),
    (STANZA.format("https://download.docker.com/linux/ubuntu", "noble") + "Enabled: no\n", None),
    (PPA + INLINE, None),
    ("# URIs: https://download.docker.com/linux/ubuntu\n", None),
    ("URIs without a colon", None),
]
CURRENT = "[signed-by=/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg] "
TOOLKITS = [
    (f"deb {CURRENT}{NVIDIA}/libnvidia-container/stable/deb/$(ARCH) /\n", ""),
    (f"deb {NVIDIA}/libnvidia-container/stable/deb/amd64 /\n", ""),
    # nvidia-docker.list and libnvidia-container.list, 2018 to 2023.
    (
        f"deb {NVIDIA}/libnvidia-container/stable/ubuntu18.04/$(ARCH) /\n"
        f"#deb {NVIDIA}/libnvidia-container/experimental/ubuntu18.04/$(ARCH) /\n"
        f"deb {NVIDIA}/nvidia-container-runtime/stable/ubuntu18.04/$(ARCH) /\n"
        f"deb {NVIDIA}/nvidia-docker/ubuntu18.04/$(ARCH) /\n",
        f"#deb {NVIDIA}/libnvidia-container/experimental/ubuntu18.04/$(ARCH) /\n",
    ),
    (f"deb [signed-by=/x] {NVIDIA}/libnvidia-container/ubuntu22.04/amd64 /\n", ""),
    (f"deb {NVIDIA}/libnvidia-container/stable/debian11/$(ARCH) /\n", ""),
    # Somebody asked for these.
    (f"deb {NVIDIA}/libnvidia-container/experimental/deb/$(ARCH) /\n", None),
    ("deb https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2204/x86_64/ /\n", None),
]


def planned(params, file, text):
    """Return what becomes of one source file, and of ours."""
    path = SOURCES if file == "sources.list" else PARTS / file
    found = planned_sources(params, "amd64", {path: text.encode()})
    own = PARTS / f"{params['name']}.sources"
    assert list(found)[-1] == own
    return found[path], found[own].decode()


CASES = [(DOCKERS, "x.list", *case) for case in LINES] + [(DOCKERS, "x.sources", *case) for case in STANZAS]
CASES += [(NVIDIAS, "nvidia-docker.list", *case) for case in TOOLKITS]


@pytest.mark.parametrize(("params", "file", "text", "left"), CASES)
def test_other_sources_of_the_repository_go_and_nothing_else(params, file, text, left):
    after, own = planned(params, file, text)
    if left is None:
        assert after == text.encode(), "untouched, to the byte"
    else:
        assert after == (None if is_idle(left) else left.encode()), "a file that names nothing goes"
    assert own.count("URIs:") == 1
    assert f"URIs: {params['uri']}\n" in own


def test_the_main_file_stays_though_nothing_is_left_in_it():
    assert planned(DOCKERS, "sources.list", docker_line())[0] == b""


def test_of_a_file_of_our_name_only_our_stanza_is_ours():
    alone = planned_sources(DOCKERS, "amd64", {})[PARTS / "docker.sources"]
    theirs = STANZA.format("https://download.docker.com/linux/ubuntu", "noble") + INLINE
    for before in (theirs, f"{theirs}\n# old\n", alone.decode()):
        assert planned(DOCKERS, "docker.sources", before)[0] == alone
    mixed = planned(DOCKERS, "docker.sources", f"{theirs}\n\n{PPA}")[0]
    assert mixed == alone + b"\n" + PPA.encode()
    assert planned(DOCKERS, "docker.sources", mixed.decode())[0] == mixed, "a second run changes nothing"


PIECES = st.sampled_from(
    [DEBIAN, docker_line(), docker_line("[signed-by=/x] ", scheme="http"), "# a\n", "\n", "  \n", docker_line(end="x")]
)


@given(st.lists(PIECES))
def test_whatever_stands_beside_stays_in_its_order(pieces):
    def ours(uri):
        return uri.endswith("docker.com/linux/ubuntu")

    kept = [piece for piece in pieces if not (piece.startswith("deb ") and ours(piece.split()[-3]))]
    assert without("".join(pieces), ours, False) == "".join(kept)


@given(st.lists(st.sampled_from([PPA, PPA + INLINE, STANZA.format("https://ours", "noble"), "# a\n"])), st.booleans())
def test_whatever_stanzas_stand_beside_stay(pieces, spaced):
    text = ("\n \n" if spaced else "\n").join(pieces)
    left = without(text, lambda uri: uri == "https://ours", True)
    assert [part.strip() for part in left.split("\n\n" if not spaced else "\n \n") if part.strip()] == [
        piece.strip() for piece in pieces if "https://ours" not in piece
    ]
    assert without(left, lambda uri: uri == "https://ours", True) == left


def signed(key):
    """Return a release file that the key signs, as far as anybody looks: the signature names it."""
    signature = b"\x04\x00\x16\x0a" + names_of(key)[-1] + b"\x00"
    body = base64.b64encode(b"\xc2" + bytes([len(signature)]) + signature).decode()
    return f"Origin: x\n-----BEGIN PGP SIGNATURE-----\n\n{body}\n-----END PGP SIGNATURE-----\n"


@pytest.fixture
def key():
    return checked_key(DOCKER, "there", PUBLISHED)


OTHER = keys_in(block(other_key()))
PINNED = "deb [signed-by=/a.gpg] http://b x y\n"
BEFORE = "deb http://deb.debian.org/debian bookworm main\n"
LISTED = "deb.debian.org_debian_dists_bookworm_InRelease"


@pytest.mark.parametrize(
    ("source", "lists", "goes"),
    [
        (PINNED, {}, True),
        (BEFORE, {LISTED: "other"}, True),
        (BEFORE, {LISTED: "ours"}, False),
        (BEFORE, {}, False),
        (BEFORE, {LISTED: "no signature"}, False),
        (BEFORE, {"deb.debian.org_debian_dists_bookworm_Release.gpg": "other"}, True),
        (BEFORE, {"deb.debian.org_debian_dists_bookworm_main_Packages": "other"}, False),
        ("deb http://h/a_b x y\n", {"h_a%5fb_dists_x_InRelease": "other"}, True),
        ("deb [signed-by=/etc/apt/trusted.gpg.d/docker.gpg] http://b x y\n", {}, True),
        (f"deb [signed-by={PUBLISHED}] http://b x y\n", {}, False),
    ],
)
def test_a_key_that_is_good_for_everything_goes_when_nothing_needs_it(tmp_path, key, source, lists, goes):
    trusted, seen = tmp_path / "trusted.gpg.d", tmp_path / "lists"
    trusted.mkdir(), seen.mkdir()
    (trusted / "docker.gpg").write_bytes(key)
    (trusted / "docker.asc").write_text(DOCKER)
    (trusted / "both.gpg").write_bytes(key + b"".join(OTHER.values()))
    (trusted / "debian.asc").write_text(block(other_key()))
    (trusted / "apt-key.gpg").write_bytes(b"\0\0\0 \1\1\0\2KBXf")
    for name, whose in lists.items():
        content = {"ours": signed(key), "other": signed(next(iter(OTHER.values())))}.get(whose, whose)
        (seen / name).write_text(content)
    sources = {SOURCES: source.replace("/etc/apt/trusted.gpg.d", str(trusted)).encode(), PARTS / "gone.list": None}
    found = superfluous(key, sources, "amd64", trusted, seen)
    named = [trusted / "docker.gpg"] if "trusted.gpg.d" in source else []
    assert found == (
        [path for path in (trusted / "docker.asc", trusted / "docker.gpg") if path not in named] if goes else []
    )


def test_a_key_is_known_by_each_of_its_parts(key):
    assert [name.hex().upper() for name in names_of(key)] == ["8D81803C0EBFCD88", "7EA0A9C3F273FCD8"]
    assert names_of(key)[1] in unarmoured(signed(key), "SIGNATURE")
