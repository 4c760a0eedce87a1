"""The user's own keys: a TOML file that gives actions other keys.

    # ~/.config/prunectl/keys.toml
    [trial]
    cancel = "ctrl+x"
    hold = ["h", "H"]

Actions have the names that help shows. `App.set_keymap` of Textual rebinds them, but checks nothing: with Textual 8.2.8
it ignores an unknown action, accepts any word as a key, and where a key is given to a second action of the same
widget it drops the first without a word (`BindingsMap.apply_keymap`). So `load` checks the file before the program
starts, and reports all mistakes at once.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import Keys, _character_to_key, format_key

from prunectl.errors import PrunectlError, nearest

Keymap = Mapping[str, str]
"""Keys by action, as `App.set_keymap` takes them: Textual's names, separated by commas."""
Context = tuple[str, Sequence[type[DOMNode]]]
"""A view, and the classes that take keys while it is shown."""

MODIFIERS = ("ctrl", "alt", "shift", "super", "hyper", "meta")
PUNCTUATION = {_character_to_key(character) for character in string.punctuation}
NAMED_KEYS = {key.value for key in Keys} | PUNCTUATION
WHILE_TYPING = (
    "filter.clear",
    "help.back",
    "help.up",
    "help.down",
    "sql.run",
    "sql.recipes",
    "sql.recopy",
)
"""Actions that are used while text is typed: a key that types a character would be typed instead of acting, or
could not be typed any more."""


class KeysError(PrunectlError):
    """The file of keys cannot be used."""


def location() -> Path:
    """Return where the file is looked for."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "prunectl" / "keys.toml"


def with_tilde(path: Path) -> str:
    """Write a path with ~ for the home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def load(contexts: Sequence[Context], path: Path | None = None) -> Keymap:
    """Read the user's keys; none where there is no file.

    Raises KeysError where the file cannot be read, names an action or a key that does not exist, or gives a key to
    two actions of one view.
    """
    path = path or location()
    try:
        content = tomli.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise KeysError(f"{with_tilde(path)}: {error}") from error
    actions = {str(binding.id) for _, nodes in contexts for binding in _bindings(nodes)}
    keys: dict[str, str] = {}
    wrong: list[str] = []
    unknown = False
    for action, value in _flat(content):
        try:
            if action not in actions:
                unknown = True
                raise ValueError(f"there is no action {action!r}{_suggestion(action, actions)}")
            keys[action] = _keys(action, value)
        except ValueError as error:
            wrong.append(str(error))
    wrong += clashes(contexts, keys)
    if wrong:
        names = "; help (?) names all actions" if unknown else ""
        raise KeysError("\n  ".join([f"{with_tilde(path)} cannot be used{names}:", *wrong]))
    return keys


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _suggestion(found: str, allowed: Iterable[str]) -> str:
    near = nearest(found, allowed)
    return f"; is it {near!r}?" if near else ""


def _keys(action: str, value: Any) -> str:
    """Return the keys of an action by Textual's names. Raises ValueError for what is no key or not allowed."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(x, str) for x in texts):
        wanted = 'a key such as "x" or "ctrl+x", or a list of keys'
        raise ValueError(f"{action}: {wanted}, not {value!r}")
    keys = [_key(action, text) for text in texts]
    typed = any(len(key) == 1 or key in PUNCTUATION | {"space"} for key in keys)
    if typed and action in WHILE_TYPING:
        raise ValueError(f"{action}: needs keys that type no text, such as f6 or ctrl+x")
    return ",".join(keys)


def _key(action: str, text: str) -> str:
    *modifiers, name = text.split("+") if len(text) > 1 and not text.endswith("+") else [text]
    name = _character_to_key(name) if len(name) == 1 else name
    if not set(modifiers) <= set(MODIFIERS) or (len(name) != 1 and name not in NAMED_KEYS):
        raise ValueError(f"{action}: there is no key {text!r}{_suggestion(text, NAMED_KEYS)}")
    return "+".join([*modifiers, name])


def _bindings(nodes: Sequence[type[DOMNode]]) -> list[Binding]:
    """Return the bindings of our own classes, which have ids."""
    own = [c for node in nodes for c in node.__mro__ if c.__module__.startswith("prunectl.")]
    found = [b for c in own for b in Binding.make_bindings(c.__dict__.get("BINDINGS", ()))]
    return [binding for binding in found if binding.id]


def clashes(contexts: Iterable[Context], keys: Keymap) -> list[str]:
    """Say which keys would mean two actions of one view because of the user's file."""
    found: dict[str, None] = {}
    for name, nodes in contexts:
        actions: dict[str, dict[str, None]] = {}
        default: dict[str, set[str]] = {}
        for binding in _bindings(nodes):
            action = str(binding.id)
            default.setdefault(binding.key, set()).add(action)
            for key in keys.get(action, binding.key).split(","):
                actions.setdefault(key, {})[action] = None
        for key, meant in actions.items():
            # Some default keys mean two actions by intent: the panel that has the focus comes first.
            if len(meant) > 1 and not set(meant) <= default.get(key, set()):
                found[f"{display(key)} would mean {' and '.join(meant)} in {name}"] = None
    return list(found)


# hints: texts on the screen that name a key

_own: dict[str, str] = {}


def set_hints(keys: Keymap) -> None:
    """Set the keys that `hint` names from now on."""
    _own.clear()
    _own.update((action, display(listed)) for action, listed in keys.items())


def hint(action: str, default: str) -> str:
    """Return the key of an action for a text; `default` where the user has not given it another."""
    return _own.get(action, default)


def display(keys: str) -> str:
    """Write keys as people do: ``^x ? esc``."""
    out = []
    for key in keys.split(","):
        *modifiers, name = key.split("+")
        control = "^" if "ctrl" in modifiers else ""
        others = [word for word in modifiers if word != "ctrl"]
        out.append("+".join([*others, control + format_key(name)]))
    return " ".join(out)
