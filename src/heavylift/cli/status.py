"""`heavylift status`: what every replica does right now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heavylift.cli.options import as_json, open_workspace, spec

if TYPE_CHECKING:
    from heavylift.observe.status import Replica

__all__ = ["status"]


@click.command()
@spec
@as_json
def status(spec: Path, as_json: bool) -> None:
    """Show each replica: release, state, tokens per second, cache use, since when. Exit 1 unless all serve."""
    import json

    from heavylift.observe.status import document
    from heavylift.observe.status import status as ask

    workspace = open_workspace(spec)
    replicas = ask(workspace)
    if as_json:
        click.echo(json.dumps(document(workspace, replicas), indent=2))
    else:
        _table(replicas, workspace.release.id)
    raise SystemExit(0 if all(replica.serves for replica in replicas) else 1)


def _table(replicas: list[Replica], release: str) -> None:
    rows = [("HOST", "STATE", "RELEASE", "TOKENS/S", "KV USE", "RUN/WAIT", "UP", "URL")]
    for replica in replicas:
        seen = replica.seen
        current = seen.get("release") or "-"
        mark = "" if current in {release, "-"} else " (not this file's)"
        rows.append(
            (
                replica.host.name,
                "unreachable" if replica.error else str(seen["state"]),
                current + mark,
                str(seen.get("tokens_per_s", "-")),
                f"{seen['kv_cache_use']:.1%}" if "kv_cache_use" in seen else "-",
                f"{seen['running']}/{seen['waiting']}" if "running" in seen else "-",
                _span(seen.get("up_s")),
                replica.url,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for replica in replicas:
        if replica.error:
            click.echo(f"{click.style('error:', fg='red')} {replica.error}", err=True)
        elif replica.seen.get("error"):
            click.echo(f"{click.style('error:', fg='red')} {replica.host.name}: {replica.seen['error']}", err=True)


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    return f"{days} d" if days else f"{hours} h" if hours else f"{minutes} min" if minutes else f"{int(seconds)} s"
