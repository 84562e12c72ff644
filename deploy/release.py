"""The release's own folder: written once, never changed; nothing that serves reads it until the link points there."""

from __future__ import annotations

from pyinfra.api import deploy

from deploy.step import changes, on_host, perform, target

__all__ = ["stage"]


@deploy("Release")
def stage() -> None:
    """Write the release's files."""
    files = [{"path": file.path, "text": file.text, "mode": file.mode} for file in changes().staged]
    perform(
        name="Write the release's files",
        commands=[on_host("place", files=files)] if files else [],
        reason=f"release {target().release.id} is there",
    )
