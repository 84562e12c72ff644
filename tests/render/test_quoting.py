"""Rendered files read back by what reads them on a host, shell, systemd and Prometheus: no value changes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from heavylift.render import host_files, install_script, render
from heavylift.render.template import File, fill
from tests.render.cases import CASES, inventory, load_case, planned, rendered

NAMES = [case.name for case in CASES]
SH = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)] or ["sh"]


def systemd_environment(text):
    """Read an environment file as systemd's env-file.c does: quotes, and backslash before what needs it."""
    found = {}
    for line in text.splitlines():
        if not line or line[0] in "#;":
            continue
        name, _, value = line.partition("=")
        assert value[0] == value[-1] == '"', line
        found[name] = re.sub(r'\\(["\\$`])', r"\1", value[1:-1])
        assert not re.search(r'(?<!\\)(\\\\)*"', value[1:-1]), f"a quote ends too soon in {line}"
    return found


def shell_environment(text, tmp_path):
    """Read it as a shell does that sources it."""
    path = tmp_path / "file.env"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["sh", "-c", f"set -a; . {path}; exec env -0"],
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
        timeout=20,
    )
    pairs = (row.partition(b"=") for row in done.stdout.split(b"\0") if row)
    return {
        name.decode(): value.decode()
        for name, _, value in pairs
        if name not in {b"PATH", b"PWD", b"SHLVL", b"OLDPWD", b"_"}
    }


@pytest.mark.parametrize("name", NAMES)
def test_environment_files_give_back_every_value(name, tmp_path):
    """Systemd and a shell read the plan's variables, and each host's own, exactly."""
    plan = planned(load_case(name))
    text = render(plan).file("engine.env").text
    assert systemd_environment(text) == dict(plan.variables)
    assert shell_environment(text, tmp_path) == dict(plan.variables)
    for slot, host in enumerate(inventory(plan.deployment).hosts):
        (file,) = host_files(plan, host, slot)
        assert systemd_environment(file.text) == shell_environment(file.text, tmp_path)


@pytest.mark.parametrize("shell", SH)
@pytest.mark.parametrize("name", NAMES)
def test_the_command_starts_the_engine_with_the_plans_arguments(name, shell, tmp_path):
    """The script itself, run by a shell with a stand-in engine that prints its words and the key that it got."""
    plan = planned(load_case(name))
    script = render(plan).file("serve").text.replace(plan.engine_directory, str(tmp_path))
    (tmp_path / "serve").write_text(script, encoding="utf-8")
    (tmp_path / "api-key").write_text("s3cret")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vllm").write_text('#!/bin/sh\nprintf "%s\\0" "${VLLM_API_KEY-}" "$(command -v vllm)" "$@"\n')
    (tmp_path / "bin" / "vllm").chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "HEAVYLIFT_ADDRESS": "10.0.0.1",
        "HEAVYLIFT_PORT": "8000",
    }
    command = [shell, *(["sh"] if shell == "busybox" else []), str(tmp_path / "serve")]
    done = subprocess.run(command, capture_output=True, env=environment, check=True, timeout=20)
    key, first, *words = done.stdout.decode().split("\0")[:-1]
    assert key == ("s3cret" if plan.deployment.access.key else "")
    assert first == f"{tmp_path}/bin/vllm"
    assert words == ["serve", plan.model_directory, "--host", "10.0.0.1", "--port", "8000", *plan.arguments]


def test_the_key_is_never_among_the_words():
    """Nor is its variable in any file: only its path on the host."""
    texts = rendered(load_case("eight_gpus"))
    assert all("HEAVYLIFT_API_KEY" not in text for text in texts.values())
    assert [name for name, text in texts.items() if "api-key" in text] == ["release/engine.service", "release/serve"]


def test_a_command_without_a_credential_ends(tmp_path):
    """Better no engine than one that everybody may use."""
    plan = planned(load_case("eight_gpus"))
    (tmp_path / "serve").write_text(render(plan).file("serve").text.replace(plan.engine_directory, str(tmp_path)))
    environment = {
        "PATH": os.environ["PATH"],
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "HEAVYLIFT_ADDRESS": "a",
        "HEAVYLIFT_PORT": "1",
    }
    done = subprocess.run(
        ["sh", str(tmp_path / "serve")], capture_output=True, text=True, env=environment, check=False, timeout=20
    )
    assert done.returncode != 0
    assert "api-key" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_posix_shell(name):
    """`sh -n` takes the command, and the installation of its engine."""
    plan = planned(load_case(name))
    for script in (render(plan).file("serve").text, install_script(plan.environment)):
        subprocess.run(["sh", "-n"], input=script, text=True, check=True, timeout=20)


@pytest.mark.parametrize("name", NAMES)
def test_the_gates_question_survives_systemd(name):
    """ExecStartPost's one argument is JSON again after systemd's quotes, specifiers and variables."""
    plan = planned(load_case(name))
    unit = render(plan).file("engine.service").text
    (line,) = [row for row in unit.splitlines() if row.startswith("ExecStartPost=")]
    words = shlex.split(line.partition("=")[2])
    assert words[:2] == ["+/opt/heavylift/bin/heavylift-host", "gate"]
    argument = words[2].replace("%%", "\0").replace("$$", "\1")
    assert not set("%$") & set(argument)
    query = json.loads(argument.replace("\0", "%").replace("\1", "$"))
    expected = {"model": plan.deployment.served_name, "timeout_s": plan.timeouts.start_s + 10}
    expected["record"] = f"/run/heavylift/{plan.deployment.name}/gate.json"
    if plan.deployment.access.key:
        expected["key_file"] = f"{plan.secrets}/api-key"
    assert query == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_scrape_file_is_yaml_with_every_host_and_label(name):
    """Prometheus reads what was written, whatever it holds; IPv6 addresses have their brackets."""
    deployment = load_case(name)
    document = yaml.safe_load(rendered(deployment)["prometheus.yml"])
    (job,) = document["scrape_configs"]
    assert job["job_name"] == "vllm"
    loopback = deployment.access.bind == "loopback"
    hosts = inventory(deployment).hosts
    for entry, host in zip(job["static_configs"], hosts, strict=True):
        address = "127.0.0.1" if loopback else host.private_address
        bracketed = f"[{address}]" if ":" in address else address
        assert entry["targets"] == [f"{bracketed}:{deployment.access.port}"]
        own = {"deployment": deployment.name, "host": host.name, "model": deployment.served_name}
        assert {**deployment.monitoring.labels, **own}.items() <= entry["labels"].items()
        assert all(isinstance(value, str) for value in entry["labels"].values())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_nothing_wrong_with_the_unit(name, tmp_path):
    """Programs and files that only hosts have are made here first, so that every word it says counts."""
    plan = planned(load_case(name))
    text = render(plan).file("engine.service").text
    for path in ("/opt/heavylift/bin/heavylift-host", f"{plan.home}/current/serve"):
        text = text.replace(path, "/bin/true")
    unit = tmp_path / plan.unit
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    about_ours = [line for line in done.stderr.splitlines() if plan.unit in line or str(unit) in line]
    assert about_ours == []


def test_a_name_that_the_context_lacks_is_an_error():
    """A typing error in a template cannot render as nothing."""
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        fill("engine/engine.env.j2", {"name": "x"})


def test_a_file_shows_no_content():
    """Logs of files cannot leak what is in them."""
    assert repr(File("/x", "secret")) == "File(path='/x', mode='644')"
