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

    workspace = open_workspace(spec, online=True)
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
    """Print every URL, and a line that can be pasted."""
    import json
    import shlex

    from heavylift.observe.status import status

    deployment, url = workspace.deployment, ""
    for replica in status(workspace, seconds=0.1):
        url = replica.url
        click.echo(url)
        if deployment.access.bind == "loopback":
            host, port = replica.host, deployment.access.port
            jump = f" -J {host.jump}" if host.jump else ""
            say(f"  reach it with: ssh -L {port}:127.0.0.1:{port}{jump} -p {host.port} {host.user}@{host.address}")
    key = f' -H "Authorization: Bearer ${deployment.access.key}"' if deployment.access.key else ""
    message = {"role": "user", "content": "Hello"}
    body = shlex.quote(json.dumps({"model": deployment.served_name, "messages": [message], "max_tokens": 64}))
    say(f"try: curl -s {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d {body}")
