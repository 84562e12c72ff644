"""scripts/engine-schema, run on a tiny package that is shaped like vLLM."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

from heavylift.errors import CommandError
from heavylift.run import run

SCRIPT = Path(__file__).parents[2] / "scripts" / "engine-schema"
VLLM = {
    "vllm/__init__.py": "__version__ = '9.8.7+cpu'\n",
    "vllm/envs.py": "environment_variables = {'VLLM_B': None, 'HOME': None, 'VLLM_A': None}\n",
    "vllm/utils/argparse_utils.py": (
        "import argparse\n\nclass FlexibleArgumentParser(argparse.ArgumentParser):\n    pass\n\n"
        "def human_readable_int(text):\n    return int(text)\n"
    ),
    "vllm/entrypoints/openai/cli_args.py": """
import argparse, dataclasses, json
from typing import Literal
from vllm.utils.argparse_utils import human_readable_int

@dataclasses.dataclass
class Inner:
    depth: int | None = None

@dataclasses.dataclass
class Outer:
    mode: Literal["a", "b"] = "a"
    inner: Inner = None
    extra: dict = None
    _hidden: int = 0

def optional_type(return_type):
    def _optional_type(text):
        return None if text == "None" else return_type(text)
    return _optional_type

def parse_dataclass(text, cls=Outer):
    return cls(**json.loads(text))

def make_arg_parser(parser):
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--zeta", "-z", type=optional_type(int), default=None, help="is fine")
    parser.add_argument("--enable-x", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--flag", action="store_true", help="--flag is deprecated; removed in v9.9.0. Use --zeta.")
    parser.add_argument("--size", type=human_readable_int, default=5, nargs="+")
    parser.add_argument("--backend", type=lambda text: text.lower().replace("-", "_"), choices=["a_b", None])
    parser.add_argument("--outer-config", type=optional_type(parse_dataclass), default=Outer())
    return parser
""",
}
EXPECTED = [
    {"name": "backend", "on": ["--backend"], "kind": "str", "fold": True, "choices": ["a_b"], "default": None},
    {"name": "enable-x", "on": ["--enable-x"], "off": ["--no-enable-x"], "kind": "bool", "default": True},
    {
        "name": "flag",
        "on": ["--flag"],
        "kind": "switch",
        "default": False,
        "deprecated": {"removal": "9.9.0", "use": "zeta"},
    },
    {
        "name": "outer-config",
        "on": ["--outer-config"],
        "kind": "json",
        "record": "Outer",
        "optional": True,
        "default": {"repr": "Outer()"},
    },
    {"name": "size", "on": ["--size"], "kind": "human_int", "nargs": "+", "default": 5},
    {"name": "zeta", "on": ["--zeta", "-z"], "kind": "int", "optional": True, "default": None},
]


@pytest.fixture
def package(tmp_path):
    """Write a folder to put on PYTHONPATH."""
    for name, text in VLLM.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "package"


def test_an_installed_version(package, tmp_path):
    """Every spelling, kind, default, choice and deprecation is there; a second run writes the same bytes."""
    texts = []
    for name in ("one.json", "two.json"):
        command = [sys.executable, str(SCRIPT), "--installed", "-o", str(tmp_path / name)]
        run(command, env={"PYTHONPATH": str(package)})
        texts.append((tmp_path / name).read_bytes())
    document = json.loads(texts[0])
    assert texts[0] == texts[1]
    assert document["options"] == EXPECTED
    assert document["records"] == [
        ["Inner", "depth", ["int", "null"]],
        ["Outer", "extra", ["object"]],
        ["Outer", "inner", ["Inner"]],
        ["Outer", "mode", ["=a", "=b"]],
    ]
    assert (document["engine"], document["positional"]) == ("9.8.7", ["model_tag"])
    assert document["variables"] == ["VLLM_A", "VLLM_B"]


def test_a_wheel(package, tmp_path):
    """A wheel is unpacked over the environment of another interpreter, and gives the same."""
    wheel = tmp_path / "vllm-9.8.7-cp38-abi3-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in VLLM:
            archive.write(package / name, name)
    output = tmp_path / "out.json"
    run([sys.executable, str(SCRIPT), "--wheel", str(wheel), "--python", sys.executable, "-o", str(output)])
    assert json.loads(output.read_text(encoding="utf-8"))["options"] == EXPECTED


def test_verdicts(package, tmp_path):
    """Lines are tried on that parser; a refusal carries its reason."""
    lines, output = tmp_path / "lines.json", tmp_path / "out.json"
    lines.write_text(json.dumps([["--zeta", "3"], ["--zeta", "x"], ["--no-enable-x"], ["--nope"]]), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "--installed", "-o", str(output), "--lines", str(lines)]
    run(command, env={"PYTHONPATH": str(package)})
    answers = json.loads(output.read_text(encoding="utf-8"))["lines"]
    assert [answer["refused"] for answer in answers] == [
        None,
        "argument --zeta/-z: invalid _optional_type value: 'x'",
        None,
        "unrecognized arguments: --nope",
    ]


def test_a_converter_that_it_does_not_know(package, tmp_path):
    """A new kind of value in vLLM stops the script, rather than giving a schema that is wrong."""
    path = package / "vllm/entrypoints/openai/cli_args.py"
    path.write_text(
        VLLM["vllm/entrypoints/openai/cli_args.py"].replace("type=human_readable_int", "type=complex"), "utf-8"
    )
    with pytest.raises(CommandError, match="unknown converter complex: teach `converter` what it accepts"):
        run(
            [sys.executable, str(SCRIPT), "--installed", "-o", str(tmp_path / "out.json")],
            env={"PYTHONPATH": str(package)},
        )
