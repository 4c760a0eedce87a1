"""Ties of processes to each other, by the kernel: a child that dies with its scheduler, orphans that come to us.

Run as a file with the parent's pid and a command, it becomes that command: the kernel kills the process when the
thread that started it ends, however it ends (PR_SET_PDEATHSIG outlives exec). A process of its own instead of
`preexec_fn`, which is unsafe beside threads; it imports nothing of prunectl. By ctypes: no library has prctl alone.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def dies_with_us(command: list[str]) -> list[str]:
    """Return a command that does the same, and is killed when the thread that starts it ends."""
    # Isolated and without site-packages: it starts in 15 ms and runs nothing of the user's.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def adopt_orphans(yes: bool) -> None:
    """Set whether processes whose parent has ended become children of this one, if an ancestor of theirs was."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def main(arguments: list[str]) -> None:
    """Arguments: the parent's pid, then the command. Does not return."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(arguments[0]):  # it died before the line above
        sys.exit(1)
    os.execvp(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
