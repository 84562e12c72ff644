"""Units and long work, with stand-ins that answer as systemd does."""

# ruff: noqa: E501  expected lines stand whole, as the user sees them
from __future__ import annotations

import pytest

from heavylift.onhost import job, status, unit

SHOW = "ActiveState={}\nSubState={}\nResult={}\nExecMainCode={}\nExecMainStatus={}\nInvocationID={}\n"
# As `systemctl show -p …` of systemd 252 prints them.
STATES = {
    "none": SHOW.format("inactive", "dead", "success", "0", "0", ""),
    "starting": SHOW.format("activating", "start-post", "success", "0", "0", "1a"),
    "up": SHOW.format("active", "running", "success", "0", "0", "1a"),
    "again": SHOW.format("activating", "auto-restart", "exit-code", "1", "1", "1a"),
    "failed": SHOW.format("failed", "failed", "exit-code", "1", "3", "1a"),
    "killed": SHOW.format("failed", "failed", "signal", "2", "9", "1a"),
    "worked": SHOW.format("active", "exited", "success", "1", "0", "1a"),
    "at work": SHOW.format("active", "running", "success", "0", "0", "1a"),
}


@pytest.fixture
def systemd(tmp_path, stub, monkeypatch):
    """Return a function that sets the states that one question after the other finds; the last one stays."""
    monkeypatch.setattr(unit.time, "sleep", lambda _seconds: None)
    calls = tmp_path / "calls"
    calls.touch()

    def play(*states, journal=""):
        for number, state in enumerate(states):
            (tmp_path / f"state{number}").write_text(STATES[state])
        (tmp_path / "turn").write_text("0")
        (tmp_path / "journal").write_text(journal)
        stub(
            "systemctl",
            f'if [ "$1" = show ]; then n=$(cat {tmp_path}/turn); cat {tmp_path}/state$n\n'
            f"  [ ! -e {tmp_path}/state$((n + 1)) ] || echo $((n + 1)) >{tmp_path}/turn\n"
            f'else echo "$*" >>{calls}; fi',
        )
        stub("systemd-run", f'echo "run $*" >>{calls}')
        stub("journalctl", f"cat {tmp_path}/journal")
        return lambda: calls.read_text().splitlines()

    return play


START = {"unit": "x.service", "mode": "start", "timeout_s": 5}


def test_a_unit_is_started_and_waited_for(systemd):
    """Reload, enable, start without blocking, then ask until it is active."""
    calls = systemd("starting", "starting", "up")
    answer = unit.start_main(START)
    assert answer["state"] == "active"
    assert calls() == [
        "reset-failed x.service",
        "daemon-reload",
        "enable --quiet x.service",
        "start --no-block x.service",
    ]


def test_waiting_starts_nothing(systemd):
    """A start that somebody else began is only waited for."""
    calls = systemd("starting", "up")
    assert unit.start_main({**START, "mode": "wait"})["state"] == "active"
    assert calls() == []


@pytest.mark.parametrize(
    ("state", "journal", "expected"),
    [
        ("again", "noise\nOSError: [Errno 98] Address already in use\n", "the engine did not start: OSError: [Errno 98] Address already in use (another process has the port; choose another access.port, or stop it)"),
        ("failed", "OddError: what\n", "the engine did not start: OddError: what"),
        ("failed", "last words\n\n", "the engine did not start: ended with status 3; last line: last words"),
        ("killed", "", "the engine did not start: ended with signal 9; last line: none"),
        ("starting", "still loading\n", "x.service is not up after 0 s; last line: still loading"),
    ],
)  # fmt: skip
def test_a_start_that_fails_says_why_and_is_stopped(systemd, state, journal, expected):
    """The engine's own line, or how its process ended; the unit does not go on failing by itself."""
    calls = systemd(state, journal=journal)
    with pytest.raises(RuntimeError) as refused:
        unit.start_main({**START, "timeout_s": 0 if state == "starting" else 5})
    assert str(refused.value) == expected
    assert calls()[-1] == "stop x.service"


def test_stopping_what_is_stopped_changes_nothing(systemd):
    """A unit that does not exist is stopped; `disable` keeps it so after a boot; one that stays up is an error."""
    calls = systemd("none")
    assert unit.stop_main({"unit": "x.service", "disable": True})["state"] == "inactive"
    assert calls() == ["stop x.service", "disable --quiet x.service"]
    systemd("up")
    with pytest.raises(RuntimeError, match=r"^x\.service is still active after systemctl stop$"):
        unit.stop_main({"unit": "x.service"})


def test_a_tool_that_fails_is_quoted(systemd, stub):
    """What systemctl says is what the user reads."""
    systemd("none")
    stub("systemctl", "echo 'Unit x.service is masked.' >&2; exit 1")
    with pytest.raises(RuntimeError, match=r"^systemctl daemon-reload: Unit x\.service is masked\.$"):
        unit.start_main(START)


@pytest.fixture
def work(tmp_path):
    """Return the question that runs a script as long work."""
    script = tmp_path / "install.sh"
    script.write_text("true")
    return {"unit": "w.service", "script": str(script), "timeout_s": 5}


def test_long_work_runs_as_a_unit_of_its_own(systemd, work, tmp_path):
    """It is started, waited for and cleaned up; its last line is the answer, and its script goes."""
    calls = systemd("none", "at work", "worked", journal="torch\nengine 0.32.0 stands\n")
    assert job.main(work)["last"] == "engine 0.32.0 stands"
    assert calls() == [
        "reset-failed w.service",
        f"run --quiet --unit=w.service --property=RemainAfterExit=yes sh {tmp_path}/install.sh",
        "stop w.service",
        "reset-failed w.service",
    ]
    assert not (tmp_path / "install.sh").exists()


def test_work_that_goes_on_is_joined(systemd, work):
    """Whoever comes next waits for the same unit instead of starting another."""
    calls = systemd("at work", "at work", "worked", journal="done\n")
    assert job.main(work)["last"] == "done"
    assert "run" not in {line.partition(" ")[0] for line in calls()}


def test_work_that_fails_says_its_own_line(systemd, work, tmp_path):
    """The script's `heavylift: ` line, wherever it stands; else its last one; the script stays for the next try."""
    systemd("none", "failed", journal="heavylift: no Python from 3.11 to 3.14\nother noise\n")
    with pytest.raises(RuntimeError, match=r"^no Python from 3\.11 to 3\.14$"):
        job.main(work)
    systemd("none", "failed", journal="a\nb\n\n")
    with pytest.raises(RuntimeError, match=r"^b$"):
        job.main(work)
    systemd("none", "killed")
    with pytest.raises(RuntimeError, match=r"^no output$"):
        job.main(work)
    assert (tmp_path / "install.sh").exists()


def test_work_past_its_limit_goes_on(systemd, work):
    """Nothing is killed: the same command joins it again."""
    systemd("none", "at work")
    with pytest.raises(
        RuntimeError, match=r"^w\.service is still at work after 0 s; it goes on, run the same command again$"
    ):
        job.main({**work, "timeout_s": 0})


def test_the_status_of_a_unit(stub, tmp_path):
    """A unit that is down has no rates; its release and last proof are told all the same."""
    stub(
        "systemctl", "printf 'ActiveState=failed\\nSubState=failed\\nNRestarts=4\\nActiveEnterTimestampMonotonic=0\\n'"
    )
    (tmp_path / "current").symlink_to("releases/abc")
    (tmp_path / "gate.json").write_text('{"tokens": 7}')
    query = {
        "unit": "x.service",
        "home": str(tmp_path),
        "record": str(tmp_path / "gate.json"),
        "address": "127.0.0.1",
        "port": 1,
    }
    assert status.main(query) == {
        "state": "failed",
        "detail": "failed",
        "restarts": 4,
        "up_s": None,
        "release": "abc",
        "gate": {"tokens": 7},
    }


def test_an_engine_that_does_not_answer_is_an_error_in_the_status(stub, tmp_path):
    """Up for systemd, silent on its port: both are told."""
    stub("systemctl", "printf 'ActiveState=active\\nSubState=running\\nActiveEnterTimestampMonotonic=1000000\\n'")
    query = {
        "unit": "x.service",
        "home": str(tmp_path),
        "record": str(tmp_path / "none"),
        "address": "127.0.0.1",
        "port": 9,
    }
    seen = status.main(query)
    assert (seen["state"], seen["release"], seen["gate"]) == ("active", None, None)
    assert seen["up_s"] > 0
    assert seen["error"] == "/metrics: [Errno 111] Connection refused"
