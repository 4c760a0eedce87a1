"""Kills a process of the program just before one of its writes, fsyncs or renames.

Python imports this by itself where its folder is on PYTHONPATH. `PRUNECTL_DIE` says where: `<role>:<n>` kills the
process of that role (`scheduler`, or `worker`) before the n-th of its calls, counted from 1 over all processes of the
role through the file `PRUNECTL_DIE_COUNT`; n = 0 only counts.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path


def _role() -> str:
    return "worker" if "prunectl.worker" in sys.orig_argv else "scheduler"


def _install() -> None:
    role, _, number = os.environ.get("PRUNECTL_DIE", "").partition(":")
    if role != _role() or not any(word.startswith("prunectl.") for word in sys.orig_argv):
        return
    last, counter = int(number), os.environ["PRUNECTL_DIE_COUNT"]

    from prunectl.store import files

    def count_call(action: str, path: Path) -> None:
        with open(counter, "a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{action} {path.name}\n")
            file.flush()
            file.seek(0)
            count = sum(1 for _ in file)
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    class Dying(files.Disk):
        def before(self, action: str, path: Path) -> None:
            count_call(action, path)

    files.use(Dying())


_install()
