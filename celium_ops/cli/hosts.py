"""``celium-ops hosts``, ``exec`` and ``logs``: the hosts as machines."""

from __future__ import annotations

from typing import Annotated

import typer

from celium_ops.base.errors import Exit, UsageError
from celium_ops.cli.options import Settings, command, confirm, group

HostArgument = Annotated[str, typer.Argument(help="A host of the inventory, by its name there.")]

app = group("The hosts of the inventory as machines.")


@command(app, "trust")
def trust(
    settings: Settings,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[HOST]...", help="All of the fleet if left out.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also record the new key of a host whose key changed.")
    ] = False,
) -> None:
    """Record the SSH host keys of hosts that are not known yet, after showing their fingerprints.

    They go where OpenSSH looks for them: the file that UserKnownHostsFile names in the inventory's ssh arguments
    (`celium-ops init` writes one that lies beside the inventory), else your own known_hosts. Compare a fingerprint with
    what the host says of itself on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

    Exit 1 when a host could not be asked, or its key has changed: that is never recorded without --replace.

    Examples:
      celium-ops hosts trust
      celium-ops hosts trust gpu-4 --yes
      celium-ops hosts trust gpu-4 --replace
    """
    from celium_ops.cli import views
    from celium_ops.workflows.trust import examine
    from celium_ops.workflows.trust import trust as record

    hosts = examine(settings.inventory, names or [])
    pending = [host for host in hosts if host.state == "new" or (replace and host.state == "changed")]
    if pending:
        views.show_keys(views.err(), [host for host in hosts if host.state in ("new", "changed")])
        what = "this key" if len(pending) == 1 else f"these {len(pending)} keys"
        confirm(settings, f"Trust {what}?", "nothing was recorded")
        hosts = record(hosts, replace)
    ok = all(host.well for host in hosts)
    if settings.json:
        views.print_json(settings, {"ok": ok, "hosts": [host.to_json() for host in hosts]})
    else:
        views.show_trust(hosts)
    if not ok:
        raise typer.Exit(Exit.FAILED)


def exec_(
    settings: Settings,
    host: HostArgument,
    command: Annotated[list[str], typer.Argument(help="After --: a program and its arguments.")],
) -> None:
    """Run a command as root on a host (sudo -n where the user is not root); its output is passed on as it comes.

    No shell reads the command: for pipes and the like say  -- sh -c '...'. On a terminal it gets a terminal too.
    Exit 0 when the command exits 0, 1 when not (stderr and --json say with what), 130 when ctrl-c ended it.

    Examples:
      celium-ops exec gpu-1 -- nvidia-smi
      celium-ops exec gpu-1 -- sh -c 'df -h / | tail -1'
      celium-ops exec gpu-1 -- tar -C /etc -c docker > docker.tar
      celium-ops exec --json miner-1 -- systemctl is-active docker | jq .exit_code
    """
    from celium_ops.cli import views
    from celium_ops.remote.streams import captured, live
    from celium_ops.workflows.exec import execute

    try:
        if settings.json:
            streams, out, err = captured()
            code = execute(settings.inventory, host, command, streams)
            texts = {
                "stdout": out.getvalue().decode(errors="replace"),
                "stderr": err.getvalue().decode(errors="replace"),
            }
            views.print_json(settings, {"ok": code == 0, "host": host, "exit_code": code, **texts})
        else:
            code = execute(settings.inventory, host, command, live())
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    if code == Exit.INTERRUPTED:
        typer.echo(f"Interrupted: {command[0]} was told to end.", err=True)
        raise typer.Exit(Exit.INTERRUPTED)
    if code != 0:
        ending = "was ended by a signal" if code is None else f"ended with {code}"
        typer.echo(f"{host}: {command[0]} {ending}", err=True)
        raise typer.Exit(Exit.FAILED)


def logs(
    settings: Settings,
    host: HostArgument,
    service: Annotated[str | None, typer.Argument(help="Only this one; all if left out.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until ctrl-c.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Last lines of each service (100; with --since all).")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="As 10m, 2h, or 2026-11-20T10:00:00Z.")] = None,
) -> None:
    """Show what the containers of a host say; the passwords that this machine generated are hidden.

    Examples:
      celium-ops logs gpu-1
      celium-ops logs miner-1 connector --follow
      celium-ops logs gpu-1 executor --since 10m
      celium-ops logs --json gpu-1 | jq -r '.lines[] | select(.service == "db") | .text'
    """
    from celium_ops.cli import views
    from celium_ops.remote.streams import captured, live
    from celium_ops.workflows.logs import Wish, show_logs

    wish = Wish(settings.inventory, host, service, follow, tail, since)
    if not settings.json:
        try:
            show_logs(wish, live())
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
        return
    if follow:
        raise UsageError("--json is one document, and --follow never ends", remedy="leave one of them out")
    streams, out, _ = captured()
    show_logs(wish, streams)
    lines = [line.partition("|") for line in out.getvalue().decode(errors="replace").splitlines()]
    found = [{"service": name.strip().rpartition("-")[0], "text": text.removeprefix(" ")} for name, _, text in lines]
    views.print_json(settings, {"ok": True, "host": host, "lines": found})
