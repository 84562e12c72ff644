"""A release is its content: equal input, equal bytes, equal id; another runtime goes the same way."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex

import pytest

from heavylift.errors import HeavyliftError
from heavylift.render import RUNTIMES, Runtime, render
from heavylift.render.output import write
from heavylift.render.template import File
from heavylift.spec import Deployment
from tests.render.cases import load_case, planned


def changed(deployment, **sections):
    """Return the deployment with other values in its sections."""
    document = deployment.model_dump(by_alias=True)
    for section, values in sections.items():
        document[section] = {**document[section], **values} if isinstance(values, dict) else values
    return Deployment.model_validate(document)


def test_equal_input_gives_equal_bytes():
    """Twice the same, from two objects; the folder on the host is the id, and the id stands in the release's facts."""
    first, second = (render(planned(load_case("eight_gpus"))) for _ in range(2))
    assert first == second
    assert re.fullmatch(r"[0-9a-f]{12}", first.id)
    assert [file.path for file in first.files] == [
        f"/opt/heavylift/deepseek-v3/releases/{first.id}/{name}"
        for name in ("engine.env", "engine.service", "release.json", "serve")
    ]
    assert [file.mode for file in first.files] == ["644", "644", "644", "755"]
    facts = json.loads(first.file("release.json").text)
    assert facts["id"] == first.id
    assert facts["files"] == {name: first.file(name).sha256 for name in ("engine.env", "engine.service", "serve")}


@pytest.mark.parametrize(
    "sections",
    [
        {"name": "other"},
        {"engine": {"version": "0.32.0"}},
        {"engine": {"arguments": {"max-model-len": 4096}}},
        {"engine": {"variables": {"A": "1"}}},
        {"engine": {"devices": [0, 1]}},
        {"limits": {"request_s": 601}},
        {"limits": {"start_s": 3601}},
        {"access": {"key": None}},
        {"model": {"name": "other"}},
        {"model": {"path": "/data/other"}},
        {"model": {"trust_remote_code": False}},
        {"sampling": {"temperature": 0.5}},
        {"paths": {"cache": "/data/cache"}},
    ],
    ids=lambda sections: " ".join(
        map(str, (*sections, *(sections[key] for key in sections if isinstance(sections[key], dict))))
    ),
)
def test_whatever_replicas_run_with_changes_the_id(sections):
    """There is no content that two releases of one id could differ in."""
    deployment = load_case("eight_gpus")
    assert render(planned(changed(deployment, **sections))).id != render(planned(deployment)).id


@pytest.mark.parametrize(
    "sections", [{"monitoring": {"labels": {}}}, {"budget": {"hour": 5.0}}, {"workload": {"input": 7}}]
)
def test_what_replicas_do_not_see_keeps_the_id(sections):
    """Labels, budget and workload restart nobody."""
    deployment = load_case("eight_gpus")
    assert render(planned(changed(deployment, **sections))).id == render(planned(deployment)).id


def test_other_weights_change_the_id():
    """The manifest is part of the release: the same path with other content is another version."""
    plan = planned(load_case("lab"))
    manifest = dataclasses.replace(
        plan.checkpoint.manifest, files=(*plan.checkpoint.manifest.files[:1], ("model.safetensors", 9, "c" * 64))
    )
    other = dataclasses.replace(plan, checkpoint=dataclasses.replace(plan.checkpoint, manifest=manifest))
    assert render(other).id != render(plan).id


def test_another_runtime_goes_through_the_same_seam():
    """A second `Runtime` brings its own templates; release, facts and id come as for the first."""
    container = Runtime("docker", (("engine/engine.env.j2", "engine.env", "600"), ("engine/serve.j2", "run", "755")))
    image = f"vllm/vllm-openai@sha256:{'a' * 64}"
    plan = planned(changed(load_case("eight_gpus"), engine={"runtime": "docker", "image": image}))
    release = render(plan, {**RUNTIMES, "docker": container})
    assert [file.path.rpartition("/")[2] for file in release.files] == ["engine.env", "release.json", "run"]
    assert (release.file("engine.env").mode, release.facts["engine"]["runtime"], release.facts["engine"]["image"]) == (
        "600",
        "docker",
        image,
    )
    assert release.facts["engine"]["environment"] is None
    with pytest.raises(HeavyliftError, match=r"^engine/runtime: `docker` is not built yet; use systemd$"):
        render(plan)


def test_time_limits_of_the_unit_stand_in_order():
    """Engine, gate and unit at the start; engine and unit at the stop: whoever knows most speaks first."""
    plan = planned(load_case("eight_gpus"))
    release = render(plan)
    unit = dict(
        row.split("=", 1) for row in release.file("engine.service").text.splitlines() if "=" in row and row[0] != "#"
    )
    engine = int(dict(plan.variables)["VLLM_ENGINE_READY_TIMEOUT_S"])
    gate = json.loads(shlex.split(unit["ExecStartPost"])[2])["timeout_s"]
    assert (engine, gate, int(unit["TimeoutStartSec"])) == (3600, 3610, 3620)
    assert 4 * int(unit["TimeoutStartSec"]) < int(unit["StartLimitIntervalSec"])
    shutdown = int(plan.arguments[plan.arguments.index("--shutdown-timeout") + 1])
    assert plan.deployment.limits.request_s < shutdown < int(unit["TimeoutStopSec"])


FILES = {"etc/a": File("/etc/a", "one\n"), "serve": File("/opt/serve", "#!/bin/sh\n", "755")}


def test_files_are_written_with_their_modes(tmp_path):
    """Twice is no problem, and a later version replaces what heavylift wrote itself."""
    write(tmp_path / "out", FILES)
    write(tmp_path / "out", FILES)
    write(tmp_path / "out", {**FILES, "etc/a": File("/etc/a", "two\n")})
    assert (tmp_path / "out/etc/a").read_text() == "two\n"
    assert (tmp_path / "out/serve").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".heavylift-rendered.json", "etc", "serve"]


@pytest.mark.parametrize("what", ["changed", "foreign", "folder", "link"])
def test_nothing_of_the_users_is_overwritten(tmp_path, what):
    """A file that was changed, was there before, or is a folder: an error that names it, and nothing is written."""
    out = tmp_path / "out"
    if what == "changed":
        write(out, FILES)
    out.mkdir(exist_ok=True)
    if what == "folder":
        (out / "serve").mkdir()
    elif what == "link":
        (tmp_path / "mine").write_text("mine")
        (out / "serve").symlink_to(tmp_path / "mine")
    else:
        (out / "serve").write_text("mine")
    with pytest.raises(HeavyliftError) as refused:
        write(out, {**FILES, "etc/a": File("/etc/a", "new\n"), "serve": File("/opt/serve", "new\n")})
    assert refused.value.message == f"{out}/serve: not written by heavylift, or changed since"
    assert not (out / "etc/a").exists() or (out / "etc/a").read_text() == "one\n"


@pytest.mark.parametrize("content", ["{", "[]", '{"serve": 5}'])
def test_a_damaged_record_of_what_was_written_overwrites_nothing(tmp_path, content):
    """Without a record every file that differs is the user's."""
    write(tmp_path, FILES)
    (tmp_path / ".heavylift-rendered.json").write_text(content)
    write(tmp_path, FILES)
    (tmp_path / ".heavylift-rendered.json").write_text(content)
    with pytest.raises(HeavyliftError, match="not written by heavylift"):
        write(tmp_path, {**FILES, "etc/a": File("/etc/a", "new\n")})


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    """The operating system's reason, as an expected error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HeavyliftError, match=r"/file/out.*: Not a directory$"):
        write(tmp_path / "file" / "out", FILES)
