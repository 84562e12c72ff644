"""The command line: what goes where, exit statuses, and that it is quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest

from heavylift import assets
from heavylift.cli import COMMANDS, cli, main
from heavylift.lab.model import make

OWNED = """\
name: a
model: {path: /srv/m, place: host}
engine: {version: 0.33.0, arguments: {max-model-len: 4096}}
hosts: {from: owned, list: [{name: g1, address: 192.0.2.1, host_key: ssh-ed25519 AAAA}]}
"""


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Return a function that runs the command as `main` does, in an empty folder: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["heavylift", *words])
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # the command is heavylift, not pytest
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def all_commands():
    """Return every command and subcommand by its words."""

    def walk(command, words):
        yield words, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from walk(command.get_command(context, name), (*words, name))

    return dict(walk(cli, ()))


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_command_helps(call, words):
    """Its help says what it does in one sentence first, and goes to stdout."""
    status, out, err = call(*words, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: heavylift {' '.join(words)}".rstrip())
    command = all_commands()[words]
    assert command.help.partition("\n")[0].endswith((".", "."))
    assert call(*words, "-h")[1] == out


def test_commands_stand_in_the_order_of_a_deployments_life(call):
    """`--help` lists them so, without a command an overview comes and 2."""
    status, out, _ = call("--help")
    listed = [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines() if line.strip()]
    assert (status, tuple(listed)) == (0, COMMANDS)
    status, out, err = call()
    assert status == 2
    assert "Usage: heavylift" in out + err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("checkk",), "Error: No such command 'checkk'."),
        (("check", "--jsn"), "Error: No such option '--jsn'. Did you mean '--json'?"),
        (("check", "a", "b"), "Error: Got unexpected extra argument (b)"),
        (("lab", "up", "--hosts", "0"), "Error: Invalid value for '--hosts': 0 is not in the range 1<=x<=200."),
    ],
)
def test_wrong_usage_is_2(call, words, expected):
    """On stderr, with the nearest that exists."""
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert expected in err


def test_init_writes_an_example_that_passes_its_own_check(call, tmp_path):
    """Both examples; what exists is not overwritten."""
    assert call("init") == (
        0,
        "",
        "deployment.yaml: written; change what is yours, then: heavylift check deployment.yaml\n",
    )
    status, out, err = call("check")
    assert (status, out) == (0, "")
    assert err == "deployment.yaml: fine. vLLM 0.33.0 (cuda) serves deepseek-ai/DeepSeek-V3 on hosts of your own\n"
    text = (tmp_path / "deployment.yaml").read_text()
    (tmp_path / "deployment.yaml").write_text(text + "# mine\n")
    status, out, err = call("init")
    assert (status, out) == (1, "")
    assert err == "error: deployment.yaml exists already\n\nhint: choose another name, or move it away\n"
    assert (tmp_path / "deployment.yaml").read_text() == text + "# mine\n"
    assert call("init", "new/folder/lab.yaml", "--lab")[0] == 0
    make(tmp_path / "new/folder/model", seed=0)
    status, _, err = call("check", "new/folder/lab.yaml")
    assert (status, err) == (0, "new/folder/lab.yaml: fine. vLLM 0.32.0 (cpu) serves tiny on hosts of the lab\n")


def test_init_copies_the_programs_for_who_wants_to_change_them(call, tmp_path):
    """Four folders, without what Python left in them; none is written over."""
    status, _, err = call("init", "--programs")
    assert (status, err[:24]) == (0, "deployment.yaml: written")
    for name in ("deploy", "infra", "inventories", "templates"):
        ours = {
            path.relative_to(assets.folder(name))
            for path in assets.folder(name).rglob("*")
            if "__pycache__" not in path.parts
        }
        assert {path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")} == ours
    (tmp_path / "deployment.yaml").unlink()
    assert (
        call("init", "--programs")[2] == "error: deploy exists already\n\nhint: choose another name, or move it away\n"
    )


def test_check_tells_every_error_and_ends_with_1(call, tmp_path):
    """One line each on stderr, nothing on stdout; sections first, then engine arguments."""
    assert call("check") == (1, "", "error: deployment.yaml: no such file\n\nhint: `heavylift init` writes one\n")
    (tmp_path / "d.yaml").write_text(OWNED.replace("name: a", "namee: a").replace("{max", "{swap-space: 1, max"))
    assert call("check", "d.yaml") == (
        1,
        "",
        "error: d.yaml:1: name: is required\nerror: d.yaml:1: namee: unknown key; did you mean `name`?\n",
    )
    (tmp_path / "d.yaml").write_text(OWNED.replace("{max", "{swap-space: 1, max"))
    status, out, err = call("check", "d.yaml")
    assert (status, out) == (1, "")
    assert err == "error: d.yaml:3: engine/arguments/swap-space: removed from vLLM in 0.18.0; remove the line\n"


def test_check_prints_data_when_asked(call, tmp_path):
    """JSON with schema and version on stdout; what is said to people stays on stderr."""
    (tmp_path / "d.yaml").write_text(OWNED + "budget: {hour: 5}\n")
    status, out, err = call("check", "d.yaml", "--json")
    assert status == 0
    assert json.loads(out) == {
        "schema": "heavylift/check",
        "version": 1,
        "file": "d.yaml",
        "problems": [
            {
                "path": "budget",
                "message": "is understood; nothing in this version uses it",
                "severity": "note",
                "hint": None,
                "line": 5,
            }
        ],
    }
    assert err.startswith("note: d.yaml:5: budget: is understood; nothing in this version uses it\n")


def test_schema_is_printed(call):
    """Nothing but the schema."""
    status, out, err = call("schema")
    assert (status, err) == (0, "")
    assert json.loads(out)["title"] == "heavylift deployment"


def test_render_lists_and_writes(call, tmp_path):
    """The list on stdout; below `--output` the same files, twice if need be, never over the user's."""
    (tmp_path / "d.yaml").write_text(OWNED)
    status, out, err = call("render", "d.yaml")
    assert (status, err[:8]) == (0, "release ")
    release = err.split()[1]
    names = [line.split()[-1] for line in out.splitlines()]
    folder = f"/opt/heavylift/a/releases/{release}"
    files = [f"{folder}/{name}" for name in ("engine.env", "engine.service", "release.json", "serve")]
    assert names == [*files, "g1:/etc/heavylift/a/host.env", "prometheus.yml"]
    for _ in range(2):
        assert call("render", "d.yaml", "--output", "out")[2].endswith("out: 6 files written\n")
    written = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert written == sorted([".heavylift-rendered.json", *(name.lstrip("/") for name in names)])
    (tmp_path / "out/prometheus.yml").write_text("mine")
    status, _, err = call("render", "d.yaml", "--output", "out")
    assert status == 1
    assert "error: out/prometheus.yml: not written by heavylift, or changed since\n" in err
    assert (tmp_path / "out/prometheus.yml").read_text() == "mine"
    assert "        #!/bin/sh\n" in call("render", "d.yaml", "--show")[1]


def test_render_without_hosts_says_what_it_leaves_out(call, tmp_path):
    """Lab hosts are not known before the lab is up."""
    (tmp_path / "d.yaml").write_text(OWNED[: OWNED.index("hosts")] + "hosts: {from: lab}\n")
    (tmp_path / "d.yaml").write_text((tmp_path / "d.yaml").read_text().replace("0.33.0", "0.32.0"))
    status, out, err = call("render", "d.yaml")
    assert (status, len(out.splitlines())) == (0, 4)
    assert err.startswith(
        "hosts are not known yet, so their own files are left out: .heavylift/inventory.json: no inventory yet\n"
    ) or ("hosts are not known yet, so their own files are left out: " in err)


def test_a_key_that_is_not_set_stops_before_anything(call, tmp_path, monkeypatch):
    """Named in the file, absent from the environment, or not a key at all."""
    (tmp_path / "d.yaml").write_text(OWNED + "access: {key: MY_KEY}\n")
    monkeypatch.delenv("MY_KEY", raising=False)
    expected = "d.yaml:5: access/key: $MY_KEY is not set, or holds blanks; export it: the API key comes from there\n"
    for value in (None, " ", "two words", "line\nbreak"):
        if value is not None:
            monkeypatch.setenv("MY_KEY", value)
        status, out, err = call("apply", "d.yaml", "--dry-run")
        assert (status, out) == (1, "")
        assert expected in err
        assert value is None or not value.strip() or value not in err


def python(*words, **options):
    """Run a Python of its own."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, check=False, **options)


def test_the_module_is_the_command(tmp_path):
    """`python -m heavylift` under its own name."""
    done = python("-m", "heavylift", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "heavylift 0.1.0\n", "")
    done = python("-m", "heavylift", "check", "none.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr[:30]) == (1, "", "error: none.yaml: no such file")


def test_what_reads_the_output_may_leave(tmp_path):
    """`heavylift schema | head -1`: no traceback."""
    script = f"{sys.executable} -m heavylift schema | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() in {"0", "1", "141"}


def test_a_traceback_comes_only_when_asked_for(call):
    """`--verbose` is for whoever looks for the cause in the code."""
    from heavylift.errors import SpecError

    assert "Traceback" not in call("check")[2]
    with pytest.raises(SpecError):
        call("--verbose", "check")


def test_help_and_version_load_nothing_heavy():
    """Start-up stays fast because the core comes with the command that needs it."""
    code = (
        "import sys, heavylift.cli as c\n"
        "try: c.cli.main(['--help'], standalone_mode=True)\n"
        "except SystemExit: pass\n"
        "heavy = ('pydantic', 'pyinfra', 'jinja2', 'yaml', 'paramiko', 'rich.console', 'numpy', 'heavylift.spec')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    assert python("-c", code).stderr == "[]\n"


def test_checking_and_rendering_never_load_pyinfra(tmp_path):
    """0.5 s and 80 MB are kept by not importing what only deploying needs."""
    (tmp_path / "deployment.yaml").write_text(OWNED)
    code = (
        "import sys, heavylift.cli as c\n"
        "c.cli.main(['check'], standalone_mode=False)\nc.cli.main(['render'], standalone_mode=False)\n"
        "print([name for name in ('pyinfra', 'gevent', 'paramiko', 'numpy', 'rich.console') if name in sys.modules])"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def on_a_terminal(argv, environment, cwd):
    """Run with stderr on a terminal; return what it shows."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=cwd, env={**os.environ, **environment}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    process.wait()
    os.close(ours)
    return shown.decode()


def test_colour_only_where_it_is_seen(tmp_path):
    """On a terminal, unless the user's wish is another; in a pipe there is none."""
    argv = [sys.executable, "-m", "heavylift", "check", "none.yaml"]
    coloured = on_a_terminal(argv, {"TERM": "xterm", "NO_COLOR": ""}, tmp_path)
    assert "\x1b[31merror:\x1b[0m none.yaml: no such file" in coloured
    plain = on_a_terminal(argv, {"TERM": "xterm", "NO_COLOR": "1"}, tmp_path)
    assert plain == "error: none.yaml: no such file\r\n\r\nhint: `heavylift init` writes one\r\n"


@pytest.mark.parametrize("words", [("init", "file/below.yaml"), ("check", "file/below.yaml")])
def test_what_the_system_refuses_is_one_line(call, tmp_path, words):
    """A path through a file, as one of many things that a file system can say no to."""
    (tmp_path / "file").write_text("")
    status, out, err = call(*words)
    assert (status, out) == (1, "")
    assert err.startswith("error: file")
    assert len(err.splitlines()) == 1
