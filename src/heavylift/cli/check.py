"""`heavylift check`: everything that is wrong with a deployment, at once, without touching anything."""

from __future__ import annotations

from pathlib import Path

import click

from heavylift.cli.options import as_json, say, spec

__all__ = ["check"]

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command()
@spec
@as_json
def check(spec: Path, as_json: bool) -> None:
    """Check a deployment file: its sections, and every engine argument against that vLLM's own parser."""
    import json
    from dataclasses import asdict

    from heavylift.workspace import Workspace

    workspace = Workspace.open(spec)
    problems = workspace.problems
    errors = sum(problem.severity == "error" for problem in problems)
    if as_json:
        rows = [{**asdict(problem), "line": workspace.source.line(problem.path)} for problem in problems]
        document = {"schema": "heavylift/check", "version": 1, "file": str(spec), "problems": rows}
        click.echo(json.dumps(document, indent=2))
    for problem in problems:
        say(f"{click.style(problem.severity + ':', fg=COLOURS[problem.severity])} {workspace.show(problem)}")
    if errors:
        raise SystemExit(1)
    deployment, plan = workspace.deployment, workspace.plan
    where = {"owned": "of your own", "lab": "of the lab", "stack": "of a Pulumi stack"}[deployment.hosts.source]
    what = f"vLLM {deployment.engine.version} ({plan.device}) serves {deployment.served_name}"
    say(f"{spec}: fine. {what} on hosts {where}")
