"""`heavylift weights`: what it says where, and what it refuses; what hosts do is tested elsewhere."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from heavylift.apply import weights as actions
from heavylift.apply.fetch import Fetched
from heavylift.cli import cli
from heavylift.errors import FleetError, HeavyliftError
from heavylift.workspace import Workspace
from tests.weights.hub_server import COMMIT, REPO, HubServer, serve
from tests.weights.test_hub import FILES, PLAIN

HOSTS = "hosts: {from: owned, list: [{name: h1, address: 192.0.2.1}, {name: h2, address: 192.0.2.2}]}"
SPEC = f"name: a\nmodel: {{repo: {REPO}, revision: REVISION}}\nengine: {{version: 0.33.0}}\n{HOSTS}\n"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Run a hub that the environment names, in an empty folder with a deployment."""
    with serve(HubServer(dict(FILES), plain=PLAIN)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "deployment.yaml").write_text(SPEC.replace("REVISION", COMMIT))
        yield running


def call(*words):
    """Run a command; return its status, stdout and stderr, or the error that `main` shows."""
    done = CliRunner().invoke(cli, ["weights", *words])
    if isinstance(done.exception, HeavyliftError):
        return str(done.exception)
    return done.exit_code, done.stdout, done.stderr


def answers(monkeypatch, name, found):
    """Let an action find this, without hosts."""
    monkeypatch.setattr(actions, name, lambda *_, **__: found)


def test_a_branch_is_refused_with_its_commit(server, tmp_path):
    """The commit that it means today is there to be copied; a hub that is not there is no second problem."""
    (tmp_path / "deployment.yaml").write_text(SPEC.replace("REVISION", "main"))
    line = (
        "deployment.yaml:2: model/revision: should be a commit of 40 hexadecimal digits, got 'main'; "
        "a branch moves, pin its commit"
    )
    assert call("fetch") == f"{line}\n\nhint: pin the commit: `revision: {COMMIT}` (main today)"
    (tmp_path / "deployment.yaml").write_text(SPEC.replace("REVISION", "v9"))
    unknown = f"model/revision: {REPO} has no v9"
    assert call("fetch") == f"{line.replace('main', 'v9')}\n\nhint: which commit 'v9' means is not known: {unknown}"


def test_other_errors_of_the_file_are_shown_as_they_are(server, tmp_path):
    """The hub is asked only where the branch is the only thing wrong."""
    (tmp_path / "deployment.yaml").write_text(SPEC.replace("REVISION", "main").replace("name: a", "name: A"))
    assert "hint" not in call("fetch")
    assert server.requests == []


def test_a_directory_is_not_fetched(server, tmp_path):
    """It is copied, or there already."""
    (tmp_path / "deployment.yaml").write_text(
        SPEC.replace(f"{{repo: {REPO}, revision: REVISION}}", "{path: /srv/m, place: host}")
    )
    assert call("fetch") == (
        "model: is a directory, not a repository of a hub\n\nhint: `heavylift apply` copies or checks it"
    )


def test_a_host_that_is_not_there(server):
    """It is a wrong call."""
    status, _, err = call("status", "--host", "h3")
    assert (status, err.splitlines()[-1]) == (2, "Error: --host h3: no such host; there are h1, h2")


def test_what_was_fetched(server, monkeypatch):
    """A line a host on stderr, one document on stdout; a host's failure is the exit status."""
    found = {"h1": Fetched(6_000_000_000, 10.0, unchanged=False), "h2": Fetched(0, 0.1, unchanged=True)}
    answers(monkeypatch, "fetch", found)
    status, out, err = call("fetch", "--json")
    assert (status, err) == (0, "h1: fetched 6.00 GB in 10 s (600 MB/s)\nh2: unchanged\n")
    document = json.loads(out)
    assert (document["schema"], document["version"], document["repo"], document["commit"]) == (
        "heavylift/weights",
        1,
        REPO,
        COMMIT,
    )
    assert document["hosts"] == [
        {"host": "h1", "moved": 6_000_000_000, "seconds": 10.0, "unchanged": False, "error": None},
        {"host": "h2", "moved": 0, "seconds": 0.1, "unchanged": True, "error": None},
    ]
    answers(monkeypatch, "fetch", {"h1": FleetError("h1: no answer", hint="is it up?")})
    assert call("fetch") == (1, "", "error: h1: no answer\n       hint: is it up?\n")


def test_what_verify_says(server, monkeypatch):
    """As promised, changed, or not there; anything but the first is exit status 1."""
    right = {"status": "verified", "files": [], "verified": "2026-01-01T00:00:00Z"}
    answers(
        monkeypatch, "verify", {"h1": {**right, "bytes": 0}, "h2": {**right, "bytes": 2_000_000_000, "seconds": 2.0}}
    )
    said = "as promised, verified 2026-01-01T00:00:00Z"
    assert call("verify") == (0, "", f"h1: {said}\nh2: {said}, 2.00 GB read in 2.0 s\n")
    wrong = {"status": "changed", "files": ["a", "b", "c"], "verified": None}
    absent = {"status": "absent", "files": [], "verified": None}
    answers(monkeypatch, "verify", {"h1": wrong, "h2": absent})
    status, out, err = call("verify")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        "error: h1: a and 2 more: not what the manifest says; `heavylift apply` brings it again",
        "error: h2: no weights are there; `heavylift apply` brings them",
    ]


def test_what_status_shows(server, monkeypatch):
    """A row a host, and why one stopped; exit status 0 only where all are verified."""
    running = {"state": "running", "bytes": 5_000_000_000, "total": 10_000_000_000, "rate": 1e9}
    failed = {"state": "failed", "bytes": 0, "total": 10_000_000_000, "message": "/srv: no space"}
    absent = {"status": "absent", "files": [], "verified": None}
    answers(monkeypatch, "status", {"h1": {**absent, "fetch": running}, "h2": {**absent, "fetch": failed}})
    status, out, err = call("status")
    assert (status, err) == (1, "h2: /srv: no space\n")
    assert out == (
        "HOST  COMMIT        STATE   VERIFIED  FETCH\n"
        f"h1    {COMMIT[:12]}  absent  -         running, 50% of 10.00 GB, 1000 MB/s, 5 s left\n"
        f"h2    {COMMIT[:12]}  absent  -         failed, 0% of 10.00 GB\n"
    )
    verified = {"status": "verified", "files": [], "verified": "2026-01-01T00:00:00Z", "fetch": failed}
    answers(monkeypatch, "status", {"h1": verified})
    status, out, err = call("status")
    assert (status, err, out.splitlines()[1].split()) == (
        0,
        "",
        ["h1", COMMIT[:12], "verified", "2026-01-01T00:00:00Z", "-"],
    )


def test_what_the_hub_said_is_part_of_the_plan(server, tmp_path):
    """Before it was asked a note says so; afterwards manifest, size and configuration are known without it."""
    workspace = Workspace.open(tmp_path / "deployment.yaml")
    assert workspace.checkpoint is None
    assert "was not looked up at the hub yet" in " ".join(problem.message for problem in workspace.problems)
    before = workspace.release.id
    actions.learn(Workspace.open(tmp_path / "deployment.yaml"), print)
    server.requests.clear()
    workspace = Workspace.open(tmp_path / "deployment.yaml")
    assert workspace.checkpoint is not None
    assert workspace.plan.checkpoint.config == {"model_type": "tiny"}
    assert not any("looked up" in problem.message for problem in workspace.problems)
    assert workspace.release.facts["model"]["manifest"] == workspace.checkpoint.manifest.sha256
    assert workspace.release.id != before
    assert server.requests == []
