# SPDX-License-Identifier: MIT
"""As much of OpenPGP (RFC 9580) as apt's keyrings and signatures need: no gpg has to be on the host."""

from __future__ import annotations

import base64
import hashlib
import re
import textwrap

HEADER = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
FOOTER = "-----END PGP PUBLIC KEY BLOCK-----"
PUBLIC_KEY, PUBLIC_SUBKEY = 6, 14
"""The packets that begin a key (5.5.1.1; all up to the next one belongs to it) and a part of one."""


def packets(data):
    """Yield ``(tag, body, whole packet)`` for each packet of an OpenPGP message (4.2)."""
    while data:
        if data[0] & 0xC0 == 0xC0:
            tag, first = data[0] & 0x3F, data[1]
            if first < 192:
                start, length = 2, first
            elif first < 224:
                start, length = 3, ((first - 192) << 8) + data[2] + 192
            elif first == 255:
                start, length = 6, int.from_bytes(data[2:6], "big")
            else:
                raise ValueError("a packet of unknown length")
        elif data[0] & 0xC0 == 0x80 and data[0] & 3 != 3:
            tag, start = (data[0] & 0x3C) >> 2, 1 + (1 << (data[0] & 3))
            length = int.from_bytes(data[1:start], "big")
        else:
            raise ValueError("no OpenPGP packet")
        if start + length > len(data):
            raise ValueError("it ends too early")
        yield tag, data[start : start + length], data[: start + length]
        data = data[start + length :]


def fingerprint_of(body):
    """Return the fingerprint of a public key of version 4 (5.5.4.2), which every apt of today knows."""
    if body[:1] != b"\x04":
        raise ValueError("a key of another version than 4")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324 - so defined


def unarmoured(text, kind="PUBLIC KEY BLOCK"):
    """Return what all blocks of a kind in a text hold (6.2); nothing when there is none."""
    lines = "".join(f"{line.strip()}\n" for line in text.splitlines())
    begin, end = (f"-----{word} PGP {kind}-----" for word in ("BEGIN", "END"))
    blocks = re.findall(rf"^{begin}\n(?:\S+: .*\n)*\n((?:[A-Za-z0-9+/]+={{0,2}}\n)+)(?:=.*\n)?{end}$", lines, re.M)
    return b"".join(base64.b64decode(block) for block in blocks)


def keys_in(text):
    """Return the keys of an ASCII-armoured text, each as bytes, by fingerprint.

    Raises:
        ValueError: it holds something else.
    """
    keys = keys_of(unarmoured(text))
    if not keys:
        raise ValueError("there is no ASCII-armoured key in it")
    return keys


def keys_of(data):
    """Return the keys of a keyring that is not armoured, each as bytes, by fingerprint.

    Raises:
        ValueError, IndexError: it holds something else.
    """
    keys, current = {}, None
    for tag, body, whole in packets(data):
        if tag == PUBLIC_KEY:
            current = fingerprint_of(body)
        if current is None:
            raise ValueError("a part of a key without its beginning")
        keys[current] = keys.get(current, b"") + whole
    return keys


def names_of(key):
    """Return the IDs of a key and its parts (5.5.4.2), as a signature names its maker."""
    parts = (body for tag, body, _ in packets(key) if tag in (PUBLIC_KEY, PUBLIC_SUBKEY))
    return [bytes.fromhex(fingerprint_of(body)[-16:]) for body in parts]


def armoured(key):
    """Return a key as text (6); gpg of Debian 12 wants the checksum."""
    checksum = 0xB704CE
    for byte in key:
        checksum ^= byte << 16
        for _ in range(8):
            checksum = checksum << 1 ^ (0x1864CFB if checksum & 0x800000 else 0)
    lines = textwrap.wrap(base64.b64encode(key).decode(), 64)
    check = "=" + base64.b64encode(checksum.to_bytes(3, "big")).decode()
    return "\n".join([HEADER, "", *lines, check, FOOTER, ""]).encode()
