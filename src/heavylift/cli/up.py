"""`heavylift up`: from a deployment file to a URL that answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heavylift.cli.apply import finish
from heavylift.cli.options import Progress, open_workspace, say, spec

if TYPE_CHECKING:
    from heavylift.workspace import Workspace

__all__ = ["up"]


@click.command()
@spec
def up(spec: Path) -> None:
    """All of it, in order: check, hosts, engine, weights, release, start, gate; then the URLs."""
    from heavylift.apply.apply import apply as run
    from heavylift.lab.prepare import prepare

    workspace = open_workspace(spec)
    workspace.key()
    with Progress("up") as report:
        if workspace.deployment.hosts.source == "lab":
            prepare(workspace, report)
        results = run(workspace, restart=False, report=report)
    status = finish(workspace, results)
    if status == 0:
        _invite(workspace)
    raise SystemExit(status)


def _invite(workspace: Workspace) -> None:
    from heavylift.observe.status import status

    deployment = workspace.deployment
    for replica in status(workspace, seconds=0.1):
        click.echo(replica.url)
        if deployment.access.bind == "loopback":
            jump = f" -J {replica.host.jump}" if replica.host.jump else ""
            forward = f"-L {deployment.access.port}:127.0.0.1:{deployment.access.port}"
            say(
                f"  reach it with: ssh {forward}{jump} -p {replica.host.port} {replica.host.user}@{replica.host.address}"
            )
    key = ' -H "Authorization: Bearer $HEAVYLIFT_API_KEY"' if deployment.access.key else ""
    key = key.replace("HEAVYLIFT_API_KEY", deployment.access.key or "")
    body = f'{{"model": "{deployment.served_name}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 64}}'
    say(f"try: curl -s {replica.url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'")
