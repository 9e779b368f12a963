"""One command on one host through fabric, its output passed on as it comes.

The connection is the one that OpenSSH would make: ssh resolves its configuration and the inventory's arguments, we hand
the result to fabric, and refuse what fabric cannot honour. Imported where it is used: fabric takes a while to load.
"""

from __future__ import annotations

import logging
import shlex
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import fabric
import paramiko

from celium_ops.base.errors import CeliumError
from celium_ops.base.processes import bound
from celium_ops.fleet.model import Connection, Host
from celium_ops.remote.host_keys import HostKey, KnownKeys, key_type, known_keys
from celium_ops.remote.last_words import LastWords
from celium_ops.remote.openssh import Options, proxy_command, resolve
from celium_ops.remote.pump import Pump
from celium_ops.remote.ssh import CONNECT_TIMEOUT, why
from celium_ops.remote.streams import Streams

ALIVE_EVERY = 10.0
"""Seconds between two questions whether the host is still there."""
ALIVE_WITHIN = 20.0
"""Seconds it gets to answer."""

# Options that decide whom we talk to, or as whom, and that fabric (paramiko) has no equal of; with what it does anyway.
_UNSUPPORTED = {
    "addressfamily": "any",
    "bindaddress": "",
    "bindinterface": "",
    "certificatefile": "",
    "identityagent": "",
    "knownhostscommand": "",
    "pkcs11provider": "",
    "proxyusefdpass": "no",
    "revokedhostkeys": "",
}


def run(host: Host, command: list[str], streams: Streams) -> int | None:
    """Run a command as root on a host and return its exit code; null when a signal ended it.

    Raises:
        CeliumError: the host cannot be reached, shows a wrong key, or goes away; or an option is not supported.
        KeyboardInterrupt: ctrl-c; the command was told to end.
    """
    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # it would print tracebacks
    logging.getLogger("paramiko").propagate = False
    try:
        with _connected(host.connection) as connection:
            return Pump(connection.create_session(), streams).run(command)
    except CeliumError as error:
        error.host = host.name
        raise


@contextmanager
def _connected(wanted: Connection) -> Iterator[fabric.Connection]:
    """Open a connection with the options that OpenSSH would use, and close it."""
    options = resolve(wanted)
    unsupported = [name for name, fine in _UNSUPPORTED.items() if options.get(name) not in ("", fine)]
    if unsupported:
        raise CeliumError(
            f"the connection's option {unsupported[0]} {options.get(unsupported[0])} is not supported here",
            remedy=f"ssh itself knows it: ssh {shlex.quote(wanted.address)}",
            code="ssh-option",
        )
    known = known_keys(options)
    if not known.keys:
        raise CeliumError(
            f"the host key of {options.host_key_name} is not known",
            remedy="celium-ops hosts trust shows and records it",
            code="host-key",
        )
    with ExitStack() as stack:
        proxy = stack.enter_context(_proxy(options))
        connection = _connection(options, known, proxy)
        with closing(connection):
            try:
                connection.open()
            except CeliumError:
                raise
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise _explained(error, options, proxy) from error
            over = threading.Event()
            threading.Thread(target=_keep_asking, args=(connection.transport, over), daemon=True).start()
            stack.callback(over.set)
            yield connection


def _connection(options: Options, known: KnownKeys, proxy: _Proxy | None) -> fabric.Connection:
    connection = fabric.Connection(
        options.get("hostname"),
        user=options.get("user"),
        port=int(options.get("port")),
        # Neither fabric's files nor paramiko's reading of OpenSSH's: everything is resolved already.
        config=fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig()),
        connect_timeout=CONNECT_TIMEOUT,
        connect_kwargs={
            "sock": proxy.socket if proxy else None,
            "key_filename": [str(file) for file in options.files("identityfile") if file.is_file()],
            "look_for_keys": False,
            "allow_agent": options.get("identitiesonly") != "yes",
            "banner_timeout": CONNECT_TIMEOUT,
            "auth_timeout": CONNECT_TIMEOUT,
            "channel_timeout": CONNECT_TIMEOUT,
            "transport_factory": _transport_factory(options, known),
        },
    )
    connection.client.set_missing_host_key_policy(_OnlyKnown(known))
    return connection


def _transport_factory(options: Options, known: KnownKeys) -> Callable[..., paramiko.Transport]:
    """Return what makes a transport with OpenSSH's algorithms, in its order, as far as paramiko has them."""
    types = {key.type for key in known.keys}

    def make(sock: Any, **_ignored: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock)
        security = transport.get_security_options()
        for ours, theirs in (("kex", "kexalgorithms"), ("ciphers", "ciphers"), ("digests", "macs")):
            wanted = options.get(theirs).split(",")
            setattr(security, ours, [name for name in wanted if name in getattr(security, ours)])
        wanted = options.get("hostkeyalgorithms").split(",")
        # A key of another type than those known would be refused although the host may have the right one too.
        security.key_types = [name for name in wanted if name in security.key_types and key_type(name) in types]
        return transport

    return make


class _OnlyKnown:
    """A policy of paramiko's: what the known_hosts files hold, and nothing else.

    paramiko's own reading of them knows no patterns and no revoked keys, so it is given none of them.
    """

    def __init__(self, known: KnownKeys) -> None:
        self.known = known

    def missing_host_key(self, _client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Refuse a key that is not known; paramiko calls this for every key."""
        shown = HostKey(key.get_name(), key.get_base64())
        if shown in self.known.revoked:
            raise CeliumError(f"the host key {shown.fingerprint} of {hostname} is revoked", code="host-key")
        if shown not in self.known.keys:
            old = ", ".join(known.fingerprint for known in self.known.keys)
            raise CeliumError(
                f"the host key of {hostname} has changed: known is {old}, shown was {shown.fingerprint}",
                remedy="find out why; then celium-ops hosts trust --replace records the new one",
                code="host-key",
            )


def _explained(error: Exception, options: Options, proxy: _Proxy | None) -> CeliumError:
    words = proxy.last_words() if proxy else ""
    if words:
        return CeliumError(f"cannot be reached: {words}", code="unreachable")
    if isinstance(error, paramiko.AuthenticationException | paramiko.PasswordRequiredException):
        files = ", ".join(str(file) for file in options.files("identityfile") if file.is_file()) or "no key file"
        return CeliumError(
            f"refuses the user {options.get('user')}: {error}",
            remedy=f"tried were {files} and the ssh agent's keys; a key with a passphrase must be in the agent",
            code="unreachable",
        )
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        error = next(iter(error.errors.values()))
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if reason.startswith(("No existing session", "Error reading SSH protocol banner")):  # its words for silence
        reason = f"no SSH server answered in {CONNECT_TIMEOUT} s"
    return CeliumError(f"cannot be reached: {reason}", code="unreachable")


@dataclass(frozen=True)
class _Proxy:
    """A program through which the host is reached, as OpenSSH starts it for ProxyCommand and ProxyJump."""

    socket: socket.socket
    errors: LastWords

    def last_words(self) -> str:
        """Return why it ended, if it said so."""
        return why(str(self.errors), on_the_way=True)


@contextmanager
def _proxy(options: Options) -> Iterator[_Proxy | None]:
    command = proxy_command(options)
    if command is None:
        yield None
        return
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                bound(command), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE
            )
        assert process.stderr  # noqa: S101  # it was asked for
        try:
            yield _Proxy(ours, LastWords(process.stderr))
        finally:
            process.terminate()
            process.wait()


def _keep_asking(transport: paramiko.Transport, over: threading.Event) -> None:
    """Close the connection when the host does not answer any more; TCP alone would wait a quarter of an hour."""
    while transport.is_active():
        alarm = threading.Timer(ALIVE_WITHIN, transport.close)
        alarm.daemon = True
        alarm.start()
        transport.global_request("keepalive@openssh.com", wait=True)
        alarm.cancel()
        over.wait(ALIVE_EVERY)
