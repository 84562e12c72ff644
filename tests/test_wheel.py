"""The wheel, without the checkout: it holds the five folders and nothing else, and works as the checkout does."""

from __future__ import annotations

import importlib.util
import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from heavylift import assets

ROOT = assets.project()
FOLDERS = ("deploy", "deployments", "infra", "inventories", "templates")


def command(*words, **options):
    """Run to the end without the checkout on the way to modules."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, words)], capture_output=True, text=True, timeout=120, check=True, env=environment, **options
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build it, with the backend and the version of it that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("wheel")
    command(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install it into a clean environment, where dependencies are this one's; return the folder of its commands."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    if importlib.util.find_spec("pip"):
        command(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    else:
        command(
            sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--no-deps", "--offline", wheel
        )
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin"


def sources():
    """Return what should be in the wheel, by its name there."""
    found = {
        f"heavylift/{path.relative_to(ROOT / 'src/heavylift')}": path for path in (ROOT / "src/heavylift").rglob("*")
    }
    for name in FOLDERS:
        found |= {f"heavylift/project/{path.relative_to(ROOT)}": path for path in (ROOT / name).rglob("*")}
    return {name: path for name, path in found.items() if path.is_file() and "__pycache__" not in path.parts}


def test_the_wheel_holds_the_sources_and_nothing_else(wheel):
    """All five folders, byte for byte; no cache, no test, no left-over."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
        facts = [name.partition(".dist-info/")[2] for name in archive.namelist() if ".dist-info/" in name]
    assert held == {name: path.read_bytes() for name, path in sources().items()}
    assert {name.split("/")[2] for name in held if name.startswith("heavylift/project/")} == set(FOLDERS)
    assert sorted(facts) == ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"]


def test_the_installed_package_is_its_own(installed):
    """Neither code nor folders come from the checkout; pyinfra finds `deploy` and `inventories` in its folder."""
    code = (
        "import sys; from heavylift import assets; sys.path.insert(0, str(assets.project()))\n"
        "import deploy.connection as c, inventories as i; print(assets.__file__, c.__file__, i.__file__)"
    )
    for word in command(installed / "python", "-c", code, cwd="/").stdout.split():
        assert Path(word).is_relative_to(installed.parent), word


def test_init_check_and_render_give_the_checkouts_bytes(installed, tmp_path):
    """From an empty folder: what users of the wheel get is what is tested here."""
    here, there = tmp_path / "checkout", tmp_path / "wheel"
    calls = (["init"], ["check"], ["render", "--output", "out"])
    there.mkdir()
    said = "".join(command(installed / "heavylift", *words, cwd=there).stderr for words in calls)
    assert ": fine. vLLM 0.33.0 (cuda) serves" in said
    here.mkdir()
    code = f"from heavylift.cli import cli\nfor words in {calls!r}: cli.main(list(words), standalone_mode=False)"
    command(sys.executable, "-c", code, cwd=here)
    texts = [{str(p.relative_to(d)): p.read_bytes() for p in d.rglob("*") if p.is_file()} for d in (there, here)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 10
    assert json.loads(texts[0]["out/.heavylift-rendered.json"])
