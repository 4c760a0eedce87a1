"""The terminal UI: a viewer of a store that leaves requests and never touches a run. Only this room knows Textual.

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
"""Repaints a second at the most where each of them travels; Textual's own is 60."""


def open_viewer(paths: StorePaths, *, readonly: bool = False, plain_curves: bool = False) -> bool:
    """Show a store until the user leaves, then say on stderr how it was left; whether a run goes on.

    `plain_curves` draws without braille. Exits where the viewer itself failed; raises KeysError as `own_keys`.
    """
    if "SSH_CONNECTION" in os.environ:
        os.environ.setdefault("TEXTUAL_FPS", OVER_SSH_FPS)
    from prunectl.store import requests as control
    from prunectl.tui.app import Viewer

    viewer = Viewer(paths, readonly=readonly, plain_curves=plain_curves, keys=own_keys())
    viewer.run()
    for text in viewer.to_print:
        print(text)
    print(farewell(paths), file=sys.stderr)
    if viewer.return_code:
        sys.exit(viewer.return_code)
    return control.alive(paths)


def own_keys() -> Keymap:
    """The user's own keys, of `keymap.location`.

    Raises KeysError where they cannot be used: to be asked before anything is started that the viewer is to show.
    """
    from prunectl.tui.app import CONTEXTS
    from prunectl.tui.keymap import load

    return load(CONTEXTS)


def farewell(paths: StorePaths) -> str:
    """What goes on after the viewer, and how to come back."""
    from prunectl.store import requests as control
    from prunectl.store.files import read_json

    if not control.alive(paths):
        return f"no scheduler is running on {paths.root}; `prunectl rank --store {paths.root}` shows the table"
    try:
        pid = f" (pid {read_json(paths.heartbeat)['pid']})"
    except Exception:  # a heartbeat that is being replaced only costs the number
        pid = ""
    return (
        f"the run goes on{pid}: `prunectl watch --store {paths.root}` looks again, "
        f"`prunectl stop --store {paths.root}` stops it"
    )
