"""The only module that starts processes: a captured run, a streamed run, and a long-lived child.

A child that outlives its time limit is ended with its whole process group, so nothing is left behind; on Linux a
child also ends when this process is killed without a chance to end it (`kill -9`, or a crash).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from heavylift.errors import CommandError

__all__ = ["Completed", "end", "end_all", "run", "start", "stream"]

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)


_WAITED_FOR: set[subprocess.Popen[str]] = set()
_PREEXEC = _end_with_parent if _LIBC is not None else None


@dataclass(frozen=True, slots=True)
class Completed:
    """How a process ended: its argv, exit status and what it wrote."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    input: str | None = None,
    timeout_s: float | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run to the end and return what was written; raise `CommandError` on a non-zero exit unless `check` is off.

    `env` is added to this process's environment. A run past `timeout_s` raises `CommandError` with status 124.
    """
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **env} if env else None,
        cwd=cwd,
        preexec_fn=_PREEXEC,  # noqa: PLW1509  one system call, no lock
        start_new_session=True,
    )
    _WAITED_FOR.add(process)
    try:
        stdout, stderr = process.communicate(input, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        end(process)
        raise CommandError(argv, 124, f"no end within {timeout_s:g} s") from None
    except BaseException:
        end(process)
        raise
    finally:
        _WAITED_FOR.discard(process)
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            pipe.close()
    completed = Completed(tuple(argv), process.returncode, stdout, stderr)
    if check and completed.returncode != 0:
        raise CommandError(argv, completed.returncode, stderr or stdout)
    return completed


def stream(
    argv: Sequence[str],
    *,
    on_line: Callable[[str], None],
    timeout_s: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[bytes] | int | None = None,
) -> int:
    """Run and hand each line of the child's stderr to `on_line` as it comes; return the exit status.

    Standard output joins those lines unless `stdout` names a file for it. Past `timeout_s` the child's process
    group is ended and the status is 124.
    """
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.STDOUT if stdout is None else subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **env} if env else None,
        cwd=cwd,
        preexec_fn=_PREEXEC,  # noqa: PLW1509  one system call, no lock
        start_new_session=True,
    )
    _WAITED_FOR.add(process)
    expired = _Alarm(process, timeout_s)
    lines = process.stdout if stdout is None else process.stderr
    assert lines is not None
    try:
        for line in lines:
            on_line(line.rstrip("\n"))
        process.wait()
    except BaseException:
        end(process)
        raise
    finally:
        _WAITED_FOR.discard(process)
        expired.cancel()
        lines.close()
    return 124 if expired.rang else process.returncode


def end_all() -> None:
    """End every child that a thread of this process still waits for."""
    for process in list(_WAITED_FOR):
        end(process)


def start(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    preexec: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that lives on by itself, in its own session, its output in `log`; its caller keeps the pid."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            preexec_fn=preexec,  # noqa: PLW1509  the lab enters a cgroup, which must happen before exec
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str], *, grace_s: float = 5.0) -> None:
    """End a child and its process group: SIGTERM, then SIGKILL after `grace_s` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(grace_s)
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


class _Alarm:
    """Ends a process after a time limit, from a thread, and remembers that it did."""

    def __init__(self, process: subprocess.Popen[str], timeout_s: float | None) -> None:
        import threading

        self.rang = False
        self._process = process
        self._timer = threading.Timer(timeout_s, self._ring) if timeout_s is not None else None
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def _ring(self) -> None:
        self.rang = True
        end(self._process)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
