"""`heavylift schema`: the JSON Schema of deployment.yaml, for editors."""

from __future__ import annotations

import click

__all__ = ["schema"]


@click.command()
def schema() -> None:
    """Print the JSON Schema of deployment.yaml."""
    from heavylift.spec.schema import schema_text

    click.echo(schema_text(), nl=False)
