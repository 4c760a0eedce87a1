"""The user's own keys: a TOML file that gives actions other keys.

    # ~/.config/prunectl/keys.toml
    [trial]
    cancel = "ctrl+x"
    hold = ["h", "H"]

Actions are called as help calls them. What cannot be meant is told before the program starts, all of it at once.
"""

from __future__ import annotations

import os
import string
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import Keys as Named
from textual.keys import _character_to_key, format_key

from prunectl.errors import PrunectlError, nearest

Keymap = Mapping[str, tuple[str, ...]]
"""Keys by action, both as Textual calls them."""
Context = tuple[str, Sequence[type[DOMNode]]]
"""A view, and what takes keys while it is shown."""

MODIFIERS = ("ctrl", "alt", "shift", "super", "hyper", "meta")
TYPED = (
    "filter.clear",
    "help.back",
    "help.up",
    "help.down",
    "sql.run",
    "sql.recipes",
    "sql.recopy",
)
"""Actions that are wanted while text is typed: a letter would be typed, or could not be any more."""


class KeysError(PrunectlError):
    """The file of keys says what cannot be meant."""


def location() -> Path:
    """Where the file is looked for."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "prunectl" / "keys.toml"


def told(path: Path) -> str:
    """The path as people write it."""
    home = str(Path.home())
    return f"~{str(path).removeprefix(home)}" if str(path).startswith(home + "/") else str(path)


def load(contexts: Iterable[Context], path: Path | None = None) -> Keymap:
    """The user's keys; none where there is no file.

    Raises KeysError where the file cannot be read, names an action or a key that there is not, or gives a key to two
    actions of one view.
    """
    path = path or location()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KeysError(f"{told(path)}: {error}") from error
    listed = list(contexts)
    known = {binding.id: binding for _, nodes in listed for binding in _bindings(nodes)}
    keys: dict[str, tuple[str, ...]] = {}
    wrong: list[str] = []
    for action, value in _flat(content):
        if action not in known:
            near = nearest(action, [name for name in known if name])
            wrong.append(f"there is no action {action!r}" + (f"; is it {near!r}?" if near else ""))
            continue
        try:
            keys[action] = _keys(value)
            if action in TYPED and any(_types(key) for key in keys[action]):
                raise ValueError("needs keys that type no text, such as f6 or ctrl+x")
        except ValueError as error:
            wrong.append(f"{action}: {error}")
    wrong += clashes(listed, keys)
    if wrong:
        names = "; help (?) names all actions" if any("no action" in text for text in wrong) else ""
        raise KeysError("\n  ".join([f"{told(path)} cannot be used{names}:", *wrong]))
    return keys


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _keys(value: Any) -> tuple[str, ...]:
    """Keys as Textual calls them. Raises ValueError for what is none."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(x, str) for x in texts):
        raise ValueError(f'a key such as "x" or "ctrl+x", or a list of keys, not {value!r}')
    return tuple(_key(text) for text in texts)


def _key(text: str) -> str:
    *modifiers, name = text.split("+") if len(text) > 1 and not text.endswith("+") else [text]
    name = _character_to_key(name) if len(name) == 1 else name
    named = {key.value for key in Named} | {_character_to_key(c) for c in string.punctuation}
    if any(word not in MODIFIERS for word in modifiers) or (len(name) != 1 and name not in named):
        near = nearest(text, named)
        raise ValueError(f"there is no key {text!r}" + (f"; is it {near!r}?" if near else ""))
    return "+".join([*modifiers, name])


def _types(key: str) -> bool:
    return len(key) == 1 or key in {"space", *map(_character_to_key, string.punctuation)}


def _bindings(nodes: Sequence[type[DOMNode]]) -> list[Binding]:
    """Those of our own classes, which have names."""
    out: list[Binding] = []
    for node in nodes:
        for each in node.__mro__:
            if each.__module__.startswith("prunectl."):
                out += Binding.make_bindings(each.__dict__.get("BINDINGS", ()))
    return [binding for binding in out if binding.id]


def clashes(contexts: Iterable[Context], keys: Keymap) -> list[str]:
    """Keys that would mean two actions of one view because of the user's wishes, in words."""
    found: dict[str, None] = {}
    for name, nodes in contexts:
        actions: dict[str, dict[str, None]] = {}
        usual: dict[str, set[str]] = {}
        for binding in _bindings(nodes):
            usual.setdefault(binding.key, set()).add(str(binding.id))
            for key in keys.get(str(binding.id), (binding.key,)):
                actions.setdefault(key, {})[str(binding.id)] = None
        for key, meant in actions.items():
            if len(meant) > 1 and not set(meant) <= usual.get(key, set()):
                found.setdefault(f"{shown((key,))} would mean {' and '.join(meant)} in {name}")
    return list(found)


# what is in use

_own: dict[str, str] = {}


def use(keys: Keymap) -> None:
    """What `hint` tells from now on."""
    _own.clear()
    _own.update((action, shown(listed)) for action, listed in keys.items())


def hint(action: str, usual: str) -> str:
    """The key of an action for a text; `usual` where the user has not given it another."""
    return _own.get(action, usual)


def shown(keys: Iterable[str]) -> str:
    """Keys as people write them."""
    out = []
    for key in keys:
        *modifiers, name = key.split("+")
        control = "^" if "ctrl" in modifiers else ""
        others = [word for word in modifiers if word != "ctrl"]
        out.append("+".join([*others, control + format_key(name)]))
    return " ".join(out)
