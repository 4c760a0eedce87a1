"""Commands that start Python again."""

from __future__ import annotations

import os
import sys


def module_command(module: str) -> tuple[str, ...]:
    """Return the command that runs a module in a process that looks for modules where this one does.

    `python -m` looks in the current folder first, where a `torch.py` or `random.py` of the user's would be taken for
    the real one; the command `prunectl` does not look there.
    """
    looks_here = not {"", os.getcwd()}.isdisjoint(sys.path)
    return (sys.executable, *(() if looks_here else ("-P",)), "-m", module)
