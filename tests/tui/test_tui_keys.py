"""The user's own keys: what the file may say, what it is told, and that help, footer and hints show them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prunectl.tui import own_keys
from prunectl.tui.app import CONTEXTS
from prunectl.tui.keymap import KeysError, display, load, location, with_tilde
from prunectl.tui.screens.help import Help
from tests.support import fake_snapshot as made
from tests.support.fake_snapshot import Harness


def written(text: str) -> Path:
    """The user's file with this text."""
    path = location()
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_means_no_keys_of_ones_own() -> None:
    assert own_keys() == {}


def test_the_place_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert with_tilde(location()) == "~/.config/prunectl/keys.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert location() == tmp_path / "prunectl" / "keys.toml"


def test_tables_and_dotted_names_mean_the_same() -> None:
    written(
        'view.zoom = "Z"\n[trial]\ncancel = "ctrl+x"\nhold = ["?", "f6", "ctrl+shift+left"]\n[app]\nhelp = "f1"\n'
    )
    assert own_keys() == {
        "view.zoom": "Z",
        "trial.cancel": "ctrl+x",
        "trial.hold": "question_mark,f6,ctrl+shift+left",
        "app.help": "f1",
    }


def test_the_file_may_begin_with_a_byte_order_mark() -> None:
    written('\ufeff# mine\nview.zoom = "Z"\n')
    assert own_keys() == {"view.zoom": "Z"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('trial.cancell = "x"', "no action 'trial.cancell'; is it 'trial.cancel'"),
        ('nonsense = "x"', "no action 'nonsense'"),
        ('trial.cancel = "ctrl+hom"', "no key 'ctrl+hom'"),
        ('trial.cancel = "strg+x"', "no key 'strg+x'"),
        ("trial.cancel = 3", "not 3"),
        ("trial.cancel = []", "not []"),
        ('trial.cancel = "h"', "h would mean trial.cancel and trial.hold in the dashboard"),
        ('trial.cancel = "j"', "j would mean trial.cancel and table.down"),
        ('view.copy = "k"\nview.zoom = "K"\ntrial.cancel = "K"', "K would mean"),
        ('app.quit = "slash"', "/ would mean app.quit and view.filter"),
        ('sql.run = "x"', "sql.run: needs keys that type no text"),
        ('filter.clear = "space"', "filter.clear: needs keys that type no text"),
        ("trial.cancel = ", "keys.toml: "),
    ],
)
def test_what_cannot_be_meant_is_told(text: str, told: str) -> None:
    written(text)
    with pytest.raises(KeysError, match=re.escape(told)) as caught:
        own_keys()
    assert "~/.config/prunectl/keys.toml" in str(caught.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    written('trial.nothing = "x"\ntrial.hold = "nokey"\nview.zoom = "y"\n')
    with pytest.raises(KeysError) as caught:
        own_keys()
    for part in ("trial.nothing", "nokey", "y would mean view.zoom and view.copy in the dashboard"):
        assert part in str(caught.value)


def test_keys_can_be_swapped() -> None:
    written('[trial]\ncancel = "h"\nhold = "c"\n')
    assert own_keys() == {"trial.cancel": "h", "trial.hold": "c"}


def test_a_file_that_cannot_be_read_is_told() -> None:
    path = location()
    path.mkdir(parents=True)
    with pytest.raises(KeysError, match="Is a directory"):
        load(CONTEXTS)


def test_the_usual_keys_never_clash() -> None:
    # Some mean two things by intent: the panel that has the focus comes first.
    written('app.theme = "f9"\n')
    assert own_keys() == {"app.theme": "f9"}


def test_keys_as_people_write_them() -> None:
    assert display("ctrl+x,question_mark,escape,shift+tab") == "^x ? esc shift+tab"


def test_footer_help_and_hints_show_the_users_keys() -> None:
    keys = {"trial.cancel": "ctrl+x", "dashboard.list": "L", "app.help": "f2"}
    ui = Harness(made.busy(), keys=keys)

    async def story(ui: Harness) -> None:
        shown = {(key.key, key.key_display, key.description) for key in ui.footer()}
        assert ("ctrl+x", "^x", "Cancel") in shown
        assert "L: queue, failures, all" in ui.text()
        await ui.press("c", "question_mark")
        assert ui.app.screen is ui.view
        await ui.press("L")
        assert "Failed, blocked and cancelled" in ui.text()
        await ui.press("f2")
        assert isinstance(ui.app.screen, Help)
        rows = {key.key: key.keys for key in ui.app.screen.listed}
        assert rows["trial.cancel"] == "^x"
        assert rows["dashboard.list"] == "L"
        assert "~/.config/prunectl/keys.toml" in ui.text()
        await ui.press("escape")
        ui.table("running").focus()
        await ui.press("ctrl+x")
        assert "Cancel" in ui.text()
        assert "Keep" in ui.text()

    ui.play(story)


def test_the_next_viewer_has_the_usual_keys_again() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        assert "F: queue, failures, all" in ui.text()

    ui.play(story)


def test_watch_tells_it_and_does_not_start(tmp_path: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    written('trial.cancell = "x"\n')
    (tmp_path / "plans").mkdir()
    child = pexpect.spawn(
        sys.executable, ["-m", "prunectl.cli", "watch", "--store", str(tmp_path)],
        env=os.environ | {"TERM": "xterm-256color"}, encoding="utf-8", timeout=60,
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 2
    assert child.before.startswith("error: ~/.config/prunectl/keys.toml cannot be used")
    assert "there is no action 'trial.cancell'; is it 'trial.cancel'?" in child.before
    assert "Traceback" not in child.before


def test_a_run_that_is_not_shown_does_not_look_at_the_file(tmp_path: Path) -> None:
    written("nonsense = 1\n")
    plan = Path(__file__).parents[2] / "plans" / "quickstart.toml"
    command = [
        sys.executable,
        "-m",
        "prunectl.cli",
        "run",
        str(plan),
        "--plain",
        "--set",
        "seeds=3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "keys.toml" not in done.stderr
