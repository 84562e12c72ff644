"""From what a host shows to what it needs: nothing where all is right, the least otherwise, or a refusal."""

# ruff: noqa: E501  expected lines stand whole, as the user sees them
from __future__ import annotations

import dataclasses

import pytest

from heavylift.apply import decide, diff
from heavylift.apply.apply import describe
from tests.apply.hosts import done, fresh, target

LAB, GPUS = target("lab"), target("eight_gpus")
OTHER = "releases/000000000000"


def needs(wanted, seen, **options):
    """Return the steps that are needed: those fields of `Changes` that are not empty."""
    changes = decide(wanted, seen, **options)
    return {
        field.name: getattr(changes, field.name)
        for field in dataclasses.fields(changes)
        if getattr(changes, field.name)
    }


def paths(files):
    """Return files by name."""
    return [file.path.rpartition("/")[2] for file in files]


@pytest.mark.parametrize("wanted", [LAB, GPUS], ids=["lab", "eight_gpus"])
def test_a_host_that_is_as_wanted_needs_nothing(wanted):
    """The second apply: no step, with or without `--restart`."""
    changes = decide(wanted, done(wanted))
    assert needs(wanted, done(wanted)) == {}
    assert needs(wanted, done(wanted), restart=True) == {}
    assert (changes.any, changes.base, changes.activates) == (False, False, False)
    assert describe(wanted, done(wanted), changes) == ["nothing to change"]


def test_a_fresh_host_needs_everything():
    """Each step once, and a start at the end."""
    found = needs(LAB, fresh(LAB))
    assert paths(found.pop("staged")) == ["engine.env", "engine.service", "release.json", "serve"]
    assert paths(found.pop("settings")) == ["host.env", "heavylift-tiny.service"]
    assert found.pop("directories") == LAB.directories
    assert found == {
        "user": True,
        "packages": ("libnuma1", "rsync"),
        "program": True,
        "engine": True,
        "weights": "place",
        "link": True,
        "start": "start",
    }


def test_gpu_hosts_need_no_libnuma_and_keep_their_own_weights():
    """The CUDA build does not load it; a checkpoint that is there already is checked, not copied."""
    found = needs(GPUS, fresh(GPUS))
    assert (found["packages"], found["weights"], found["key"]) == (("rsync",), "check", True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.update(user=False), {"user": True}),
        (lambda s: s.update(engine=None), {"engine": True}),
        (lambda s: s["libraries"].update(numa=False), {"packages": ("libnuma1",)}),
        (lambda s: s["programs"].update(rsync=False), {"packages": ("rsync",)}),
        (
            lambda s: s["directories"].update({"/opt/heavylift/tiny": None}),
            {"directories": (("/opt/heavylift/tiny", "root", "755"),)},
        ),
        (
            lambda s: s["directories"]["/etc/heavylift/tiny"].update(mode="755"),
            {"directories": (("/etc/heavylift/tiny", "root", "700"),)},
        ),
        (
            lambda s: s["directories"]["/var/cache/heavylift/tiny"].update(owner=0),
            {"directories": (("/var/cache/heavylift/tiny", "heavylift", "750"),)},
        ),
        (lambda s: s["files"]["/opt/heavylift/bin/heavylift-host"].update(sha256="0" * 64), {"program": True}),
        (lambda s: s["weights"].update(status="changed", files=["a"]), {"weights": "place"}),
        (lambda s: s["weights"].update(status="other"), {"weights": "place"}),
        (lambda s: s["weights"].update(status="unverified"), {"weights": "place"}),
        (lambda s: s["unit"].update(ActiveState="failed", SubState="failed"), {"start": "start"}),
        (lambda s: s["unit"].update(ActiveState="inactive", SubState="dead"), {"start": "start"}),
        (lambda s: s["unit"].update(ActiveState="activating", SubState="auto-restart"), {"start": "start"}),
        (lambda s: s["unit"].update(ActiveState="activating", SubState="start-post"), {"start": "wait"}),
    ],
)
def test_one_thing_that_is_amiss_is_one_step(change, expected):
    """Nothing else is touched, and an engine that serves goes on serving."""
    seen = done(LAB)
    change(seen)
    assert needs(LAB, seen) == expected


@pytest.mark.parametrize("name", ["serve", "engine.env"])
@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"mode": "777"}])
def test_a_file_of_the_release_is_mended(name, change):
    """Its content or its mode differs."""
    seen = done(LAB)
    seen["files"][LAB.release.file(name).path].update(change)
    assert {step: paths(files) for step, files in needs(LAB, seen).items()} == {"staged": [name]}


def waiting(what):
    """Return what a serving host says that should serve something else."""
    return f"{what} serves; `heavylift apply --restart` changes one host after the other"


def test_another_release_that_serves_goes_on_serving():
    """All is brought into place but what it would notice; the rest waits for a decision, unless `--restart` is it."""
    seen = done(LAB)
    seen["links"][LAB.link] = OTHER
    seen["files"][LAB.unit_file.path]["sha256"] = "0" * 64
    seen["files"][LAB.release.file("serve").path] = None
    assert {step: paths(value) if step == "staged" else value for step, value in needs(LAB, seen).items()} == {
        "staged": ["serve"],
        "waiting": waiting("release 000000000000"),
    }
    found = needs(LAB, seen, restart=True)
    assert (paths(found["settings"]), found["link"], found["start"]) == (["heavylift-tiny.service"], True, "restart")
    assert "waiting" not in found


def test_another_key_restarts_nobody_by_itself():
    """The release is the same, its settings are not."""
    seen = done(GPUS)
    seen["files"][GPUS.key_path]["sha256"] = "0" * 64
    same = waiting(f"release {GPUS.release.id} with other settings")
    assert needs(GPUS, seen) == {"waiting": same}
    assert needs(GPUS, seen, restart=True) == {"key": True, "start": "restart"}
    seen["unit"]["ActiveState"] = "inactive"
    assert needs(GPUS, seen) == {"key": True, "start": "start"}


def test_a_start_under_way_is_not_disturbed():
    """An engine that loads another release for minutes is treated as one that serves."""
    seen = done(LAB)
    seen["unit"].update(ActiveState="activating", SubState="start-post")
    seen["links"][LAB.link] = OTHER
    assert needs(LAB, seen) == {"start": "wait", "waiting": waiting("release 000000000000")}


def test_a_unit_that_keeps_failing_is_replaced():
    """Between two tries nothing serves, so the new release may start."""
    seen = done(LAB)
    seen["unit"].update(ActiveState="activating", SubState="auto-restart")
    seen["links"][LAB.link] = OTHER
    assert needs(LAB, seen) == {"link": True, "start": "start"}


@pytest.mark.parametrize(
    ("wanted", "change", "expected"),
    [
        (
            LAB,
            lambda s: s["system"].update(systemd=False),
            "systemd is not running there; heavylift runs engines as systemd units",
        ),
        (
            LAB,
            lambda s: s["system"].update(architecture="riscv64"),
            "its processor is riscv64; vLLM is built for x86_64 and aarch64",
        ),
        (
            GPUS,
            lambda s: s.update(gpus=[]),
            "nvidia-smi shows no GPU; install the driver, or write `devices: cpu` under engine",
        ),
        (
            LAB,
            lambda s: s["system"].update(shared_memory_free=64 << 20),
            "/dev/shm has 64 MiB free, vLLM needs 160; `mount -o remount,size=1g /dev/shm`",
        ),
        (
            LAB,
            lambda s: s.update(listener={"pid": 9, "command": "nginx: master", "unit": "nginx.service"}),
            "port 8000 is taken by process 9 (nginx: master); stop it, or choose another access.port",
        ),
        (
            LAB,
            lambda s: s.update(listener={"pid": 0, "command": "", "unit": ""}),
            "port 8000 is taken by process 0 (unknown); stop it, or choose another access.port",
        ),
        (
            LAB,
            lambda s: s["directories"].update(
                {"/opt/heavylift/engines": {"mode": "755", "owner": 0, "readonly": True}}
            ),
            f"engine {LAB.plan.environment.name} is not there and /opt/heavylift/engines is read-only; `heavylift up` builds it",
        ),
    ],
)
def test_a_host_that_cannot_carry_the_release(wanted, change, expected):
    """One line that says why and what to do; a dry run says the same and lists nothing else."""
    seen = fresh(wanted)
    change(seen)
    changes = decide(wanted, seen)
    assert changes.refusal == expected
    assert describe(wanted, seen, changes) == [f"refused: {expected}"]


def test_what_runs_already_is_no_reason_to_refuse():
    """The engine's own listener, a read-only engine that is there, and the memory that it uses."""
    seen = done(LAB)
    seen["directories"]["/opt/heavylift/engines"]["readonly"] = True
    seen["system"]["shared_memory_free"] = 10 << 20
    assert needs(LAB, seen) == {}


def test_a_dry_run_lists_steps_and_diffs():
    """In the order in which they are done; new files against nothing, changed ones line by line, the key not at all."""
    seen = fresh(GPUS)
    lines = describe(GPUS, seen, decide(GPUS, seen))
    assert lines[:3] == [
        "install packages: rsync",
        "make the service user heavylift",
        "make /opt/heavylift (root, 755)",
    ]
    environment = GPUS.plan.engine_directory
    assert f"install the engine environment {environment}" in lines
    assert "check the checkpoint /data/models/deepseek-v3" in lines
    assert "write the API key (not shown)" in lines
    assert f"point /opt/heavylift/deepseek-v3/current at releases/{GPUS.release.id}" in lines
    assert "start the engine" in lines
    assert any(line.startswith("--- /dev/null\n+++ /opt/heavylift/deepseek-v3/releases/") for line in lines)


def test_the_text_of_a_diff():
    """What lies there against what will, with the path in both heads; content that is not readable is not shown."""
    file = GPUS.host_files[0]
    seen = done(GPUS)
    seen["files"][file.path]["text"] = file.text.replace("9000", "8000")
    assert diff(file, seen) == (
        f"--- {file.path}\n+++ {file.path}\n@@ -1,4 +1,4 @@\n"
        " # Written by heavylift for host gpu1: what differs between the hosts of one release.\n"
        ' HEAVYLIFT_ADDRESS="10.0.0.11"\n-HEAVYLIFT_PORT="8000"\n+HEAVYLIFT_PORT="9000"\n VLLM_HOST_IP="10.0.0.11"\n'
    )
    seen["files"][file.path]["text"] = None
    assert diff(file, seen) == f"{file.path}: changes (not shown)\n"
    seen["files"][file.path] = {"sha256": "0", "mode": "644", "text": file.text.rstrip("\n")}
    assert diff(file, seen).endswith('-VLLM_HOST_IP="10.0.0.11"\n+VLLM_HOST_IP="10.0.0.11"\n')


def test_a_target_asks_for_all_that_it_decides_on():
    """One question a host: every file, folder and fact, and no secret in it."""
    query = GPUS.query
    files = [*GPUS.release.files, *GPUS.host_files, GPUS.unit_file]
    assert set(query["files"]) == {*(file.path for file in files), GPUS.key_path, "/opt/heavylift/bin/heavylift-host"}
    assert query["directories"] == [*(path for path, _, _ in GPUS.directories), "/opt/heavylift/engines"]
    assert {
        key: query[key] for key in ("user", "links", "libraries", "programs", "unit", "port", "weights", "manifest")
    } == {
        "user": "heavylift",
        "links": ["/opt/heavylift/deepseek-v3/current"],
        "libraries": [],
        "programs": ["rsync"],
        "unit": "heavylift-deepseek-v3.service",
        "port": 9000,
        "weights": "/data/models/deepseek-v3",
        "manifest": None,
    }
    assert query["engine"] == GPUS.plan.engine_directory
    assert LAB.query["manifest"] == LAB.plan.checkpoint.manifest.sha256
    assert LAB.query["libraries"] == ["numa"]


def test_lab_hosts_have_a_core_of_their_own():
    """They share one machine; by itself every engine would take core 0. What the file says itself wins."""
    assert 'VLLM_CPU_OMP_THREADS_BIND="1"' in target("lab", slot=1).host_files[0].text
    assert "VLLM_CPU_OMP_THREADS_BIND" not in GPUS.host_files[0].text
