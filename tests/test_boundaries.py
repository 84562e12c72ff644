"""Who may import what: read from the imports themselves, so that a folder's rule cannot fade."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

from heavylift import assets

ROOT = assets.project()
SOURCES = sorted(
    path
    for folder in ("src", "deploy", "infra", "inventories")
    for path in (ROOT / folder).rglob("*.py")
    if "project" not in path.parts
)
# A library, and the only places that may import it.
ONLY = {
    "click": ("src/heavylift/cli",),
    "rich": ("src/heavylift/cli",),
    "pyinfra": ("deploy", "inventories"),
    "paramiko": ("deploy",),
    "gevent": ("deploy",),
    "pulumi": ("infra",),
    "pulumi_aws": ("infra",),
    "jinja2": ("src/heavylift/render",),
    "yaml": ("src/heavylift/spec",),
    "pydantic": ("src/heavylift/spec",),
    "pydantic_core": ("src/heavylift/spec",),
    "subprocess": ("src/heavylift/run.py", "src/heavylift/onhost"),
    "numpy": ("src/heavylift/lab",),
    "tokenizers": ("src/heavylift/lab",),
    "heavylift.cli": ("src/heavylift/cli", "src/heavylift/__main__.py"),
    "heavylift.lab": ("src/heavylift/lab", "src/heavylift/cli"),
    "vllm": (),
    "torch": (),
    "requests": (),
    "safetensors": (),
    "transformers": (),
}
PURE = ("spec", "catalog", "plan", "render", "errors.py")
IMPURE = {
    "subprocess",
    "socket",
    "requests",
    "urllib",
    "http",
    "time",
    "random",
    "secrets",
    "threading",
    "tempfile",
    "shutil",
}


@functools.cache
def tree(path):
    """Parse a file once."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def imports(path):
    """Return every module that a file names in an import, wherever it stands, `from a import b` as `a` and `a.b`."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def is_below(path, places):
    """Whether a file is one of these places or lies in one."""
    return any(path.is_relative_to(ROOT / place) for place in places)


def users(library):
    """Return the files that import a library, or a part of it."""
    return [
        path for path in SOURCES if any(name == library or name.startswith(f"{library}.") for name in imports(path))
    ]


@pytest.mark.parametrize("library", ONLY)
def test_a_library_has_its_place(library):
    """The folder is the boundary."""
    assert [str(path.relative_to(ROOT)) for path in users(library) if not is_below(path, ONLY[library])] == []


def test_the_rules_are_about_what_is_there():
    """Where a library may be imported, it is: a rule for a name that nobody uses would prove nothing."""
    used = {library for library, places in ONLY.items() if places and not library.startswith("pulumi")}
    assert [library for library in sorted(used) if not users(library)] == []


def test_what_runs_on_hosts_is_the_standard_library_of_python_3_9():
    """No import from outside but the standard library's, and syntax of 3.9."""
    for path in (ROOT / "src/heavylift/onhost").glob("*.py"):
        foreign = {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names
        assert foreign == set(), path.name
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize("part", PURE)
def test_the_core_does_nothing_but_compute(part):
    """No process, network, clock, chance, or environment variable: same input, same bytes."""
    folder = ROOT / "src/heavylift" / part
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*.py")):
        assert {name.partition(".")[0] for name in imports(path)} & IMPURE == set(), path
        names = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        assert (
            names & {"os.environ", "os.getenv", "os.system", "os.popen", "datetime.now", "Path.cwd", "Path.home"}
            == set()
        ), path


def test_layers_point_one_way():
    """Spec knows nothing of plan, plan nothing of render, none of them anything of hosts being changed."""
    later = {
        "spec": {"plan", "render", "weights", "apply", "fleet", "observe", "workspace", "run", "lab"},
        "catalog": {"plan", "render", "weights", "apply", "fleet", "observe", "workspace", "run", "spec", "lab"},
        "plan": {"render", "apply", "fleet", "observe", "workspace", "run", "lab"},
        "render": {"apply", "observe", "workspace", "run", "lab"},
        "fleet": {"apply", "observe", "workspace", "plan", "render", "lab"},
        "weights": {"apply", "observe", "workspace", "plan", "render", "fleet", "run", "lab"},
        "onhost": {"apply", "observe", "workspace", "plan", "render", "fleet", "run", "lab", "spec", "errors"},
    }
    for part, forbidden in later.items():
        for path in (ROOT / "src/heavylift" / part).rglob("*.py"):
            upward = {
                name for name in imports(path) if name.startswith("heavylift.") and name.split(".")[1] in forbidden
            }
            assert upward == set(), path.relative_to(ROOT)


def test_every_package_says_what_it_is():
    """Each package's docstring is where its boundary is stated."""
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent.name != "inventories":
            assert ast.get_docstring(tree(path)), path.relative_to(ROOT)


def test_no_file_and_no_function_outgrows_its_page():
    """400 lines a file, 50 lines a function: beyond that something has two jobs."""
    tall = []
    for path in SOURCES:
        tall += [str(path.relative_to(ROOT))] if path.read_text(encoding="utf-8").count("\n") > 400 else []
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 50:
                tall.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert tall == []


def test_nothing_imports_the_tests():
    """Stand-ins stay where they belong."""
    assert [path for path in SOURCES if "tests" in {name.partition(".")[0] for name in imports(path)}] == []
    assert Path(__file__).is_relative_to(ROOT)
