"""`heavylift init`: a commented deployment to start from."""

from __future__ import annotations

from pathlib import Path

import click

from heavylift.cli.options import say

__all__ = ["init"]


@click.command()
@click.argument("spec", type=click.Path(path_type=Path), default=Path("deployment.yaml"))
@click.option("--lab", is_flag=True, help="For the lab: two hosts on this machine and a tiny model.")
@click.option(
    "--programs", is_flag=True, help="Also copy deploy/, infra/, inventories/ and templates/ out, to change them."
)
def init(spec: Path, lab: bool, programs: bool) -> None:
    """Write a commented deployment file; nothing that exists is overwritten."""
    import shutil

    from heavylift import assets
    from heavylift.errors import HeavyliftError

    example = assets.folder("deployments") / ("lab.yaml" if lab else "deepseek-v3.yaml")
    folders = ("deploy", "infra", "inventories", "templates") if programs else ()
    there = [path for path in (spec, *(spec.parent / name for name in folders)) if path.exists()]
    if there:
        raise HeavyliftError(f"{there[0]} exists already", hint="choose another name, or move it away")
    spec.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(example, spec)
    for name in folders:
        shutil.copytree(assets.folder(name), spec.parent / name, ignore=shutil.ignore_patterns("__pycache__"))
    say(f"{spec}: written; change what is yours, then: heavylift check {spec}")
