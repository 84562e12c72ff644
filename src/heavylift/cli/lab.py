"""`heavylift lab`: real hosts on this machine, for trying and testing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from heavylift.lab import Lab

__all__ = ["lab"]

INVENTORY = Path(".heavylift", "inventory.json")

named = click.option("--name", default="lab", show_default=True, help="Which lab; several can run side by side.")
directory = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where .heavylift/inventory.json lies; the current directory by default.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print data on standard output.")


@click.group()
def lab() -> None:
    """Real Debian hosts on this machine: own address, sshd, systemd. Needs root on Linux."""


@lab.command()
@click.option("--hosts", type=click.IntRange(1, 200), default=2, show_default=True, help="How many hosts shall run.")
@click.option("--disk", metavar="SIZE", help="Give new hosts a disk of this size in memory (300M).")
@click.option("--memory", metavar="SIZE", help="Cap the memory of new hosts (1G).")
@click.option("--bind", multiple=True, metavar="PATH", help="Show a path or device in new hosts: /a, /a:/b, /a:/b:ro.")
@click.option("--own-engines", is_flag=True, help="New hosts do not see the engines that labs share.")
@named
@directory
@as_json
def up(
    hosts: int, disk: str | None, memory: str | None, bind: tuple[str, ...], own_engines: bool, name: str,
    directory: Path, as_json: bool,
) -> None:  # fmt: skip
    """Start hosts h1 … hN and write the inventory; what runs already stays as it is."""
    lab = _lab(name)
    inventory = lab.up(hosts, share_engines=not own_engines, bind=bind, disk=disk, memory=memory, on_line=_say)
    inventory.save(directory / INVENTORY)
    _say(f"{directory / INVENTORY}: {len(inventory.hosts)} hosts; log in: ssh -F {lab.ssh_config} h1")
    if as_json:
        click.echo((directory / INVENTORY).read_text(encoding="utf-8"), nl=False)


@lab.command()
@click.argument("hosts", nargs=-1, metavar="[HOST]…")
@click.option("--purge", is_flag=True, help="Also delete the base image, downloaded packages and shared engines.")
@named
@directory
def down(hosts: tuple[str, ...], purge: bool, name: str, directory: Path) -> None:
    """Take the named hosts away, or the whole lab; nothing of it is left on this machine."""
    if purge and hosts:
        raise click.UsageError("--purge takes the whole lab away, so it cannot be used with host names")
    lab = _lab(name)
    if purge:
        lab.purge()
    else:
        lab.down(hosts or None)
    _update_inventory(lab, directory / INVENTORY)
    _say(f"lab {name!r}: {', '.join(hosts)} gone" if hosts else f"lab {name!r}: gone")


@lab.command()
@named
@as_json
def status(name: str, as_json: bool) -> None:
    """Show every host: on, paused, cut or off."""
    hosts = _lab(name).status()
    if as_json:
        rows = [{"name": host.name, "address": host.address, "state": host.state} for host in hosts]
        document = {"schema": "heavylift/lab-status", "version": 1, "name": name, "hosts": rows}
        click.echo(json.dumps(document, indent=2))
        return
    if not hosts:
        click.echo(f"lab {name!r} does not run")
    for host in hosts:
        click.echo(f"{host.name:<6}{host.address:<16}{host.state}")


@lab.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed answers differently.")
def model(directory: Path, seed: int) -> None:
    """Make a tiny DeepSeek-V3-architecture checkpoint in DIRECTORY, with a manifest that pins its bytes."""
    from heavylift.lab.model import make
    from heavylift.weights import promise

    made = make(directory, seed=seed)
    promise(directory)
    size = f"{made.parameters / 1e6:.1f} M parameters, {made.size_bytes / 1e6:.1f} MB"
    _say(f"{directory}: DeepSeek-V3's architecture, {size} in {made.shards} shards, seed {seed}")


@lab.command()
@click.argument("spec", type=click.Path(path_type=Path), default=Path("deployment.yaml"))
@click.option("--stop", is_flag=True, help="End the engine that this command started.")
def here(spec: Path, stop: bool) -> None:
    """Start the rendered unit's command as a process of this machine: for where the lab cannot run."""
    from heavylift.cli.options import Progress, open_workspace
    from heavylift.lab.here import here, stop_here

    workspace = open_workspace(spec)
    if stop:
        _say("stopped" if stop_here(workspace) else "nothing runs here")
        return
    with Progress("here") as report:
        url = here(workspace, report)
    click.echo(url)


def _lab(name: str) -> Lab:
    from heavylift.lab import Lab

    return Lab(name)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _update_inventory(lab: Lab, file: Path) -> None:
    """Keep the inventory in step with the lab that wrote it; leave any other inventory alone."""
    from heavylift.errors import FleetError
    from heavylift.fleet.inventory import Inventory

    try:
        written = Inventory.load(file)
    except FleetError:
        return
    if written.source != "lab" or not all(host.key == str(lab.key) for host in written.hosts):
        return
    if lab.status():
        lab.inventory().save(file)
    else:
        file.unlink()
