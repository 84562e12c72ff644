"""The one module that starts processes: what it returns, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import time

import pytest

from heavylift.errors import CommandError
from heavylift.run import end, run, start, stream


def is_gone(pid):
    """Whether a process ended; a zombie did."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123  short-lived
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def eventually(condition):
    """Wait, two seconds at most, for what comes a moment later."""
    until = time.monotonic() + 2
    while not condition() and time.monotonic() < until:
        pass
    return condition()


def test_what_was_written_is_returned():
    """Both streams, the status, the words; bytes that are no UTF-8 are no error."""
    done = run(["sh", "-c", r"echo out; printf '\377' >&2"])
    assert (done.argv, done.returncode, done.stdout, done.stderr) == (
        ("sh", "-c", r"echo out; printf '\377' >&2"),
        0,
        "out\n",
        "\ufffd",
    )


def test_a_failure_is_one_line_with_the_last_words():
    """Stderr before stdout; unless the caller looks at the status itself."""
    with pytest.raises(CommandError) as failed:
        run(["sh", "-c", "echo a; echo b; echo c >&2; exit 3"])
    assert failed.value.message == "`sh -c echo a; echo b; echo c >&2; exit 3` ended with 3: c"
    assert (failed.value.returncode, failed.value.output) == (3, "c\n")
    with pytest.raises(CommandError, match=r"ended with 1: no output$"):
        run(["false"])
    assert run(["false"], check=False).returncode == 1


def test_input_environment_and_folder(tmp_path):
    """`env` is added to what is there; without `input` there is nothing to read."""
    assert run(["cat"], input="text").stdout == "text"
    assert run(["cat"]).stdout == ""
    done = run(["sh", "-c", 'echo "$A $PATH"; pwd'], env={"A": "1"}, cwd=tmp_path)
    assert done.stdout.splitlines() == [f"1 {os.environ['PATH']}", str(tmp_path)]


def test_a_time_limit_ends_the_whole_group(tmp_path):
    """The child's own children too."""
    with pytest.raises(CommandError) as late:
        run(["sh", "-c", f"sleep 60 & echo $! >{tmp_path}/pid; wait"], timeout_s=0.3)
    assert (late.value.returncode, late.value.output) == (124, "no end within 0.3 s")
    child = int((tmp_path / "pid").read_text())
    assert eventually(lambda: is_gone(child))


def test_an_interrupt_ends_the_child(tmp_path, monkeypatch):
    """Ctrl-C while a child runs leaves nothing of it."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "default_int_handler", interrupt)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 60"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_lines_come_as_they_are_written(tmp_path):
    """Both streams in one, or stdout in a file and only stderr line by line."""
    lines = []
    assert stream(["sh", "-c", "echo a; echo b >&2; exit 4"], on_line=lines.append) == 4
    assert lines == ["a", "b"]
    lines.clear()
    with (tmp_path / "out").open("w+b") as file:
        assert stream(["sh", "-c", "echo data; echo said >&2"], on_line=lines.append, stdout=file) == 0
    assert ((tmp_path / "out").read_text(), lines) == ("data\n", ["said"])


def test_a_stream_past_its_limit_ends_with_124(tmp_path):
    """Whatever it wrote until then was handed on."""
    lines = []
    assert stream(["sh", "-c", "echo begun; exec sleep 60"], on_line=lines.append, timeout_s=0.3) == 124
    assert lines == ["begun"]


def test_a_failing_reader_ends_the_child(tmp_path):
    """An error in `on_line` is the caller's, the child is ours."""

    def fail(line):
        (tmp_path / "pid").write_text(line)
        raise ValueError

    with pytest.raises(ValueError):
        stream(["sh", "-c", "echo $$; exec sleep 60"], on_line=fail)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_started_child_lives_on_until_it_is_ended(tmp_path):
    """Its output is in the log; one that ignores SIGTERM is killed after the grace."""
    child = start(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 60; done"], log=tmp_path / "log")
    assert eventually(lambda: (tmp_path / "log").read_text() == "up\n")
    assert child.poll() is None
    end(child, grace_s=0.1)
    assert child.returncode == -signal.SIGKILL
    end(child)
