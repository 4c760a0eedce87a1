"""The terminal UI: a viewer of a store that leaves requests and never touches a run. Only this package imports Textual.

`open_viewer` is the way in.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from prunectl.store.paths import StorePaths

if TYPE_CHECKING:
    from prunectl.tui.keymap import Keymap

OVER_SSH_FPS = "20"
"""Repaints a second at most where each of them travels over a network; Textual's default is 60."""


def open_viewer(paths: StorePaths, *, readonly: bool = False, plain_curves: bool = False) -> bool:
    """Show a store until the user leaves, then say on stderr how it was left.

    `plain_curves` draws without braille. Returns whether a run goes on. Raises KeysError as `own_keys` does, and
    SystemExit where the viewer itself failed.
    """
    if "SSH_CONNECTION" in os.environ:
        os.environ.setdefault("TEXTUAL_FPS", OVER_SSH_FPS)
    from prunectl.store import requests
    from prunectl.tui.app import Viewer

    viewer = Viewer(paths, readonly=readonly, plain_curves=plain_curves, keys=own_keys())
    viewer.run()
    for text in viewer.to_print:
        print(text)
    print(farewell(paths), file=sys.stderr)
    if viewer.return_code:
        sys.exit(viewer.return_code)
    return requests.alive(paths)


def own_keys() -> Keymap:
    """Read the user's own keys from `keymap.location`, before anything is started that the viewer is to show.

    Raises KeysError where they cannot be used.
    """
    from prunectl.tui.app import CONTEXTS
    from prunectl.tui.keymap import load

    return load(CONTEXTS)


def farewell(paths: StorePaths) -> str:
    """Say what goes on after the viewer, and how to come back."""
    from prunectl.store import requests
    from prunectl.store.records.heartbeat import read_heartbeat

    if not requests.alive(paths):
        return f"no scheduler is running on {paths.root}; `prunectl rank --store {paths.root}` shows the table"
    beat = read_heartbeat(paths)
    pid = "" if beat.pid is None else f" (pid {beat.pid})"
    return (
        f"the run goes on{pid}: `prunectl watch --store {paths.root}` looks again, "
        f"`prunectl stop --store {paths.root}` stops it"
    )
