"""`heavylift render`: the files of the release, as they will lie on hosts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heavylift.cli.options import open_workspace, say, spec

if TYPE_CHECKING:
    from heavylift.render import File
    from heavylift.workspace import Workspace

__all__ = ["render"]


@click.command()
@spec
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write the files below this folder.")
@click.option("--show", is_flag=True, help="Print the files' contents too.")
def render(spec: Path, output: Path | None, show: bool) -> None:
    """List the files of the release, and what each host gets beside them."""
    workspace = open_workspace(spec)
    files = _files(workspace)
    say(f"release {workspace.release.id}")
    for name, file in files.items():
        click.echo(f"{file.mode:>4} {len(file.text.encode()):>7}  {name}")
        if show:
            click.echo("".join(f"        {line}\n" for line in file.text.splitlines()), nl=False)
    if output is not None:
        from heavylift.render.output import write

        write(output, {name.lstrip("/"): file for name, file in files.items()})
        say(f"{output}: {len(files)} files written")


def _files(workspace: Workspace) -> dict[str, File]:
    """Return the release's files by path, then each known host's own, then the scrape configuration."""
    from heavylift.errors import FleetError
    from heavylift.render import host_files, scrape_file

    files = {file.path: file for file in workspace.release.files}
    try:
        inventory = workspace.inventory
    except FleetError as error:
        say(f"hosts are not known yet, so their own files are left out: {error.message}")
        return files
    for host, slot in workspace.slots:
        files |= {f"{host.name}:{file.path}": file for file in host_files(workspace.plan, host, slot)}
    scrape = scrape_file(workspace.plan, workspace.release, inventory)
    return {**files, scrape.path: scrape}
