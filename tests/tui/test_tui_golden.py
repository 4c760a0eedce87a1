"""Every screen as text, at both sizes and in four states, as it is in tests/golden/tui.

PRUNECTL_GOLDEN=write writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import textual

from tests.support.fake_snapshot import STATES, Harness

GOLDEN = Path(__file__).parent.parent / "golden" / "tui"
SIZES = ((120, 40), (80, 24))
PINNED = "8.2.8"


def compare(name: str, text: str) -> None:
    """With the file of this name; or write it where that is asked for."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("PRUNECTL_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing: PRUNECTL_GOLDEN=write makes it"
    assert text == path.read_text(encoding="utf-8"), f"{name} has changed"


@pytest.mark.skipif(
    textual.__version__ != PINNED, reason="other versions of Textual draw otherwise"
)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", STATES)
def test_screens_look_as_they_did(state: str, size: tuple[int, int]) -> None:
    ui = Harness(STATES[state](), rows=[] if state == "empty" else None)

    async def story(ui: Harness) -> None:
        shots = {"dashboard": ui.text()}
        await ui.press("2")
        shots["leaderboard"] = ui.text()
        await ui.press("3")
        if state != "empty":
            await ui.press("ctrl+j")
        shots["sql"] = ui.text()
        views = ui.app.snapshot.trials if ui.app.snapshot else ()
        name = next(
            (v.trial.id for v in views if v.state in ("failed", "running", "interrupted")), "0" * 16
        )
        ui.app.action_view("Dashboard")
        await ui.settle()
        await ui.open_trial(name)
        shots["trial"] = ui.text()
        for screen, text in shots.items():
            compare(f"{screen}-{state}-{size[0]}x{size[1]}", text)

    ui.play(story, size)


def test_help_and_question_look_as_they_did() -> None:
    ui = Harness(STATES["running"]())

    async def story(ui: Harness) -> None:
        await ui.press("question_mark")
        compare("help-80x24", ui.text())
        await ui.press("escape", "c")
        compare("cancel-80x24", ui.text())

    ui.play(story, (80, 24))


@pytest.mark.skipif(
    textual.__version__ != PINNED, reason="other versions of Textual draw otherwise"
)
def test_colours_are_what_they_were() -> None:
    ui = Harness(STATES["running"]())

    async def story(ui: Harness) -> None:
        for key, name in (("1", "dashboard"), ("2", "leaderboard")):
            await ui.press(key)
            picture = ui.app.export_screenshot(title="prunectl")
            path = GOLDEN / f"{name}-running.svg"
            if os.environ.get("PRUNECTL_GOLDEN") == "write":
                path.write_text(picture, encoding="utf-8")
            assert picture == path.read_text(encoding="utf-8"), f"{path.name} has changed"

    ui.play(story)
