"""What a value of each contract type may be: one checker per type, all of them pure."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from ipaddress import IPv4Network
from itertools import combinations
from typing import Any

import base58

PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
SMALLEST_NETWORK = 29
"""Bits of a network with room for a few containers beside its router."""
IMAGE = re.compile(r"^[a-z0-9][\w.:/-]*(@sha256:[0-9a-f]{64})?$")


class WrongValueError(ValueError):
    """A value is not what its type wants; the text says what was expected."""


def check(kind: str, value: Any) -> Any:
    """Return ``value`` as its type wants it.

    Raises:
        WrongValueError: with what was expected, for the operator.
    """
    checker = _CHECKERS.get(kind)
    return checker(value) if checker else value


def is_pinned(image: str) -> bool:
    """Tell whether an image reference names exactly one image, by digest."""
    return "@sha256:" in image


def is_lasting(device: str) -> bool:
    """Tell whether a name stays with its disk: the kernel gives out ``/dev/sda`` and its like anew at every boot."""
    return not re.fullmatch(r"/dev/((sd|hd|vd|xvd)[a-z]+|nvme\d+n\d+|md\d+|dm-\d+)", device)


def renting_range(text: str) -> list[int]:
    """Return the ports of a correct RENTING_PORT_RANGE."""
    ports = [int(part) for part in re.split("[-,]", text)]
    return list(range(ports[0], ports[1] + 1)) if "-" in text else ports


def renting_mappings(pairs: list[list[int]]) -> list[int]:
    """Return the ports on the host itself of correct RENTING_PORT_MAPPINGS."""
    return [inner for inner, _ in pairs]


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
        raise WrongValueError("a whole number")
    return int(value)


def _port(value: Any) -> int:
    try:
        port = _integer(value)
    except WrongValueError:
        port = 0
    if not 1 <= port <= 65535:
        raise WrongValueError("a port, 1 to 65535")
    return port


def _number(value: Any) -> float:
    if isinstance(value, bool) or not re.fullmatch(r"-?\d+(\.\d+)?", str(value)):
        raise WrongValueError("a number")
    return float(value)


def _count(value: Any) -> int:
    if not re.fullmatch(r"0*[1-9]\d*", str(value)):
        raise WrongValueError("a whole number from 1")
    return int(value)


def _amount(value: Any) -> float:
    if isinstance(value, bool) or not re.fullmatch(r"\d+(\.\d+)?", str(value)):
        raise WrongValueError("a number from 0")
    return float(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValueError("true or false")
    return value


def _text(value: Any) -> str:
    if isinstance(value, (dict, list)) or not str(value).strip():
        raise WrongValueError("a text that is not empty")
    if re.search(r"[\n\0]", str(value)):
        raise WrongValueError("a text without line breaks")
    return str(value)


def _name(value: Any) -> str:
    # A slash would lead out of its folder: hotkeys/../coldkey is a file too.
    if "/" in _text(value) or str(value) in (".", ".."):
        raise WrongValueError("the name of a file, without its folder")
    return str(value)


def _path(value: Any) -> str:
    if not _text(value).startswith(("/", "~")):
        raise WrongValueError("an absolute path")
    if os.path.expanduser(value).startswith("~"):  # noqa: PTH111 - pathlib raises where a user is not known
        raise WrongValueError("an absolute path; this machine knows no such user")
    return str(value)


def _mount_name(value: Any) -> str:
    return _mountable(_name(value))


def _mount_path(value: Any) -> str:
    return _mountable(_path(value))


def _mountable(text: str) -> str:
    """Check what becomes a part of a volume in Compose's short form, ``host:container:mode``."""
    if ":" in text or not text.isprintable():
        raise WrongValueError("a text without colons and control characters, which no volume of Compose can have")
    return text


def _db_name(value: Any) -> str:
    # It stands in an address as it is: SQLAlchemy decodes the user and the password there, the name never.
    if not re.fullmatch(r"[\w.~-]+", _text(value), re.ASCII):
        raise WrongValueError("the name of a database: letters without accents, digits and any of . _ ~ -")
    return str(value)


def _device(value: Any) -> str:
    # What a shell would take apart is in the name of no disk.
    if not re.fullmatch(r"/dev(/[\w.:+@=,-]+)+", _text(value)) or "/../" in f"{value}/":
        raise WrongValueError("a disk below /dev, best as /dev/disk/by-id/...")
    return str(value)


def _ss58(value: Any) -> str:
    """Check an address: base58 of a type byte, 32 bytes of key, and two bytes of the BLAKE2b checksum (SS58)."""
    try:
        # The decoder forgives blanks around the text; upstream, which gets them too, does not.
        raw = base58.b58decode(str(value)) if str(value).isalnum() else b""
    except ValueError:
        raw = b""
    checksum = hashlib.blake2b(b"SS58PRE" + raw[:-2]).digest()[:2]
    if len(raw) != 35 or raw[0] != 42 or checksum != raw[-2:]:
        raise WrongValueError(
            "an ss58 address of a Bittensor key (48 characters, begins with 5); the checksum is wrong"
        )
    return str(value)


def _hotkeys(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise WrongValueError("a list of ss58 addresses")
    return [_ss58(hotkey) for hotkey in value]


def _percent(value: Any) -> int:
    try:
        percent = _integer(value)
    except WrongValueError:
        percent = -1
    if not 0 <= percent <= 100:
        raise WrongValueError("a share in percent, 0 to 100")
    return percent


def _image(value: Any) -> str:
    if not isinstance(value, str) or not IMAGE.match(value):
        raise WrongValueError("an image, as registry/name@sha256:digest")
    return value


def _registry(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9._/-]+)?", value):
        raise WrongValueError("a registry, as host or host:port, in lower case")
    return value


def _port_range(value: Any) -> str:
    """Check the two forms upstream's validator reads: one dash range or one comma list (facts of 2025-12)."""
    text = str(value).replace(" ", "")
    expected = WrongValueError("one range like 40000-40100, or one list like 9001,9002,9003")
    if not re.fullmatch(r"\d+-\d+|\d+(,\d+)*", text):
        raise expected
    try:
        ports = [_port(part) for part in re.split("[-,]", text)]
    except WrongValueError:
        raise expected from None
    if "-" in text and ports[0] > ports[1]:
        raise WrongValueError("a range whose first port is not above its last")
    if len(set(ports)) != len(ports) and "," in text:
        raise WrongValueError("a list that names each port once")
    return text


def _port_mappings(value: Any) -> list[list[int]]:
    expected = WrongValueError("a list of pairs [internal port, external port]")
    try:
        pairs = json.loads(value) if isinstance(value, str) else value
        return [[_port(inner), _port(outer)] for inner, outer in pairs]
    except (TypeError, ValueError):
        raise expected from None


def _pools(value: Any) -> list[dict[str, Any]]:
    """Check pools of addresses as Docker's ``default-address-pools`` has them."""
    try:
        pools = [_pool(one) for one in value]
    except (TypeError, ValueError):
        raise WrongValueError("a list of networks and sizes, as [{base: 10.200.0.0/16, size: 24}]") from None
    if not all(any(base.subnet_of(private) for private in PRIVATE) for base, _ in pools):
        raise WrongValueError(f"a list of private networks, in {', '.join(map(str, PRIVATE))}")
    if not all(base.prefixlen <= size <= SMALLEST_NETWORK for base, size in pools):
        raise WrongValueError(f"a list whose sizes lie between the bits of their base and {SMALLEST_NETWORK}")
    if any(one.overlaps(other) for (one, _), (other, _) in combinations(pools, 2)):
        raise WrongValueError("a list of networks that do not overlap")
    return [{"base": str(base), "size": size} for base, size in pools]


def _pool(value: Any) -> tuple[IPv4Network, int]:
    if not isinstance(value, dict) or value.keys() != {"base", "size"}:
        raise ValueError
    return IPv4Network(str(value["base"])), _integer(value["size"])


def _sysctls(value: Any) -> dict[str, str]:
    """Check settings of the kernel; several numbers of one are a text with single spaces between them."""
    if not isinstance(value, dict):
        raise WrongValueError("settings of the kernel with their values, as {vm.swappiness: 10}")
    for name, setting in value.items():
        if not re.fullmatch(r"[a-z0-9_]+([./][A-Za-z0-9_-]+)+", str(name)):
            raise WrongValueError(f"names as sysctl -a has them; {name} is none")
        if isinstance(setting, bool) or not re.fullmatch(r"[^\s=][^\n=]*", str(setting)):
            raise WrongValueError(f"a number, or a text in one line, for {name}")
    return {str(name): " ".join(str(setting).split()) for name, setting in value.items()}


def _is(kind: type, expected: str) -> Callable[[Any], Any]:
    def checker(value: Any) -> Any:
        if not isinstance(value, kind):
            raise WrongValueError(expected)
        return value

    return checker


_CHECKERS: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "host": _text,
    "int": _integer,
    "count": _count,
    "float": _number,
    "amount": _amount,
    "bool": _boolean,
    "path": _path,
    "device": _device,
    "name": _name,
    "db_name": _db_name,
    "mount_name": _mount_name,
    "mount_path": _mount_path,
    "port": _port,
    "port_range": _port_range,
    "port_mappings": _port_mappings,
    "ss58": _ss58,
    "hotkeys": _hotkeys,
    "percent": _percent,
    "image": _image,
    "registry": _registry,
    "pools": _pools,
    "sysctls": _sysctls,
    "list": _is(list, "a list"),
    "dict": _is(dict, "keys with values"),
}
