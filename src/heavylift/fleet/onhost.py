"""The zip application that heavylift runs on hosts: built from `heavylift.onhost`, equal bytes for equal sources."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import shlex
from pathlib import Path
from typing import Any

from heavylift import onhost

__all__ = ["PATH", "application", "application_sha256", "call", "first_call"]

PATH = "/opt/heavylift/bin/heavylift-host"
_SHEBANG = b"#!/usr/bin/env python3\n"
_START = "import sys\n\nfrom onhost.__main__ import main\n\nsys.exit(main())\n"


@functools.cache
def application() -> bytes:
    """Return the zip application's bytes."""
    import zipfile  # 15 ms that only whoever talks to hosts pays for

    buffer = io.BytesIO()
    sources = {f"onhost/{path.name}": path.read_text("utf-8") for path in sorted(Path(onhost.__path__[0]).glob("*.py"))}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {"__main__.py": _START, **sources}.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return _SHEBANG + buffer.getvalue()


@functools.cache
def application_sha256() -> str:
    """Return the sha256 of the application's bytes."""
    return hashlib.sha256(application()).hexdigest()


def call(command: str, query: dict[str, Any]) -> str:
    """Return the shell command that runs the application that lies on the host."""
    return f"{PATH} {command} {shlex.quote(json.dumps(query, sort_keys=True))}"


def first_call(command: str, query: dict[str, Any]) -> str:
    """Return the shell command that brings the application along: for a host that may not have it yet."""
    body = base64.b64encode(application()).decode("ascii")
    words = f"{command} {shlex.quote(json.dumps(query, sort_keys=True))}"
    return (
        "command -v python3 >/dev/null || { echo 'heavylift: python3 is missing; install it' >&2; exit 1; }; "
        f't=$(mktemp) && trap \'rm -f "$t"\' EXIT && echo {body} | base64 -d >"$t" && python3 "$t" {words}'
    )
