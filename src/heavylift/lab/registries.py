"""Which package registries a host may reach: those that this machine itself is configured for, and no other.

Nothing is listed here by name: apt's sources, pip's own code and configuration, npm and go are asked.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from heavylift.errors import HeavyliftError
from heavylift.lab import apt
from heavylift.run import run

__all__ = ["Registries", "discover", "endpoint", "of_apt", "of_go", "of_npm", "of_pip", "pip_lines", "pip_settings"]

PORTS = {"http": 80, "https": 443}
PIP_KEYS = ("index-url", "extra-index-url", "find-links")
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
UV_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
ASK_TIMEOUT_S = 20.0
# pip is asked where it is installed; else the wheel that ensurepip carries is put on the path and asked.
ASK_PIP = """
import glob, json, os, sys
try:
    import pip
except ImportError:
    import ensurepip
    own = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled", "pip-*.whl")
    sys.path[:0] = (glob.glob(own) + glob.glob("/usr/share/python-wheels/pip-*.whl"))[:1]
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI
settings = Configuration(isolated=False)
settings.load()
found = {}
for key, value in settings.items():
    pairs = value.items() if isinstance(value, dict) else [(key, value)]
    found.update((name.rpartition(".")[2], text) for name, text in pairs if name[:1] != ":")
print(json.dumps({"index": PyPI.simple_url, "files": PyPI.file_storage_domain, "settings": found}))
"""


@dataclass(frozen=True, slots=True)
class Registries:
    """What hosts may reach, as `host:port`, and the `[global]` lines that make their pip use the same indexes."""

    allowed: tuple[str, ...]
    pip: tuple[str, ...]


def discover() -> Registries:
    """Ask this machine's own tools; one that is absent or fails adds nothing."""
    with ThreadPoolExecutor(3) as pool:
        pip = pool.submit(pip_settings)
        npm = pool.submit(_said, "npm", "config", "get", "registry")
        go = pool.submit(_said, "go", "env", "GOPROXY")
        found = [
            *of_apt(apt.archives()),
            *of_pip(pip.result(), os.environ),
            *of_npm(npm.result()),
            *of_go(go.result()),
        ]
    return Registries(tuple(dict.fromkeys(found)), pip_lines(pip.result(), os.environ))


def pip_lines(answer: Mapping[str, object], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Repeat the machine's index addresses for a host's pip.conf; the environment wins, as it does for pip."""
    settings = answer.get("settings")
    configured = settings if isinstance(settings, Mapping) else {}
    pairs = zip(PIP_KEYS[:2], PIP_VARIABLES, strict=False)
    values = {key: environment.get(name) or configured.get(key) for key, name in pairs}
    return tuple(f"{key} = {' '.join(str(value).split())}" for key, value in values.items() if value)


def endpoint(url: str) -> str | None:
    """Reduce an address to `host:port`; None for anything but http and https."""
    parts = urlsplit(url.strip())
    if parts.scheme not in PORTS or not parts.hostname:
        return None
    return f"{parts.hostname}:{parts.port or PORTS[parts.scheme]}"


def of_apt(archives: Iterable[apt.Archive]) -> tuple[str, ...]:
    """List the endpoints of apt's archives."""
    return _endpoints(archive.uri for archive in archives)


def of_pip(answer: Mapping[str, object], environment: Mapping[str, str]) -> tuple[str, ...]:
    """List the endpoints that pip and uv use: the built-in index and its file host, and what was configured."""
    settings = answer.get("settings")
    configured = settings if isinstance(settings, Mapping) else {}
    urls = [str(configured[key]) for key in PIP_KEYS if key in configured]
    urls += [environment[name] for name in (*PIP_VARIABLES, *UV_VARIABLES) if name in environment]
    urls += [str(answer["index"]), f"https://{answer['files']}"] if "index" in answer else []
    return _endpoints(word.rpartition("=")[2] if "=http" in word else word for url in urls for word in url.split())


def of_npm(registry: str) -> tuple[str, ...]:
    """List the endpoint of npm's registry."""
    return _endpoints([registry])


def of_go(proxies: str) -> tuple[str, ...]:
    """List the endpoints of GOPROXY, whose entries are parted by commas or bars."""
    return _endpoints(proxies.replace("|", ",").split(","))


def pip_settings() -> dict[str, object]:
    """Ask pip for its built-in index and this machine's configuration, in the first Python that can answer."""
    pythons = (sys.executable, shutil.which("python3"), "/usr/bin/python3")
    for python in dict.fromkeys(python for python in pythons if python and Path(python).exists()):
        if said := _said(python, "-W", "ignore", "-c", ASK_PIP):
            answer: dict[str, object] = json.loads(said)
            return answer
    return {}


def _endpoints(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found for url in urls if (found := endpoint(url)) is not None))


def _said(*argv: str) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    try:
        completed = run(argv, check=False, timeout_s=ASK_TIMEOUT_S, cwd=Path("/"))
    except (HeavyliftError, OSError):
        return ""
    return completed.stdout.strip() if completed.returncode == 0 else ""
