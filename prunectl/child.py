"""Commands that start Python again, and answers of processes that may hang or crash."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence

KILL_SECONDS = 2.0
"""For a killed process to end: one that waits in a driver or on a lost network disk does not, and is left behind."""


def module_command(module: str) -> tuple[str, ...]:
    """Return the command that runs a module in a process that looks for modules where this one does.

    `python -m` looks in the current folder first, where a `torch.py` or `random.py` of the user's would be taken for
    the real one; the command `prunectl` does not look there.
    """
    looks_here = not {"", os.getcwd()}.isdisjoint(sys.path)
    return (sys.executable, *(() if looks_here else ("-P",)), "-m", module)


class NoAnswer(Exception):
    """A process did not answer; the message says how it ended, or that it did not."""


class Asked:
    """A process that was started to answer, and may hang or crash instead: that costs the asker nothing but time.

    Several may be asked at once; each has its time from its own start.
    """

    def __init__(
        self, command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
    ) -> None:
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        with contextlib.ExitStack() as stack:
            # Files and not pipes: what the process has started may keep a pipe open for ever.
            self._out, self._err = (
                stack.enter_context(tempfile.TemporaryFile()) for _ in ("stdout", "stderr")
            )
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )
            self._files = stack.pop_all()
        # Also where nobody hears the answer, because this process is interrupted.
        self._end = weakref.finalize(self, _end, self._process)

    def answer(self) -> bytes:
        """Return what it wrote to stdout. Raises NoAnswer where it failed, or did not end in time."""
        with self._files:
            try:
                code = self._process.wait(max(0.0, self._until - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise NoAnswer(f"no answer within {self._seconds:g} s") from None
            finally:
                self._end()
            for file in (self._out, self._err):
                file.seek(0)
            if code:
                lines = self._err.read().decode(errors="replace").strip().splitlines()
                raise NoAnswer("; ".join([describe_exit(code), *lines[-1:]]))
            return self._out.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started, and do not wait for what cannot be killed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_SECONDS)


def describe_exit(code: int) -> str:
    """Return an exit status in words: "ended with exit status 1", "killed by SIGSEGV"."""
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps by the kernel for lack of memory" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}"
