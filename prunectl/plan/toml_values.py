"""TOML text into plain values, none of them larger, deeper or stranger than what follows can carry."""

from __future__ import annotations

from typing import Any

import tomli

from prunectl.errors import PlanError
from prunectl.plan.validation_errors import Place, dotted
from prunectl.spec.ranges import BIGGEST

MOST_DEPTH = 20
"""Tables and lists inside each other; plans need 7. Copying and comparing them is recursive."""
MOST_KEYS = 50_000
"""In all tables together: what is wrong with each is collected before the first is named."""


def parse(text: str) -> dict[str, Any]:
    """Parse TOML. Raises tomli.TOMLDecodeError for text that is none, PlanError for what no parser carries."""
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # from Python, which reads no whole number of more than 4,300 digits
        raise PlanError("a whole number is too large", allowed=[_AT_MOST]) from None


_AT_MOST = f"at most {BIGGEST}"


def _too_deep(place: Place = ()) -> PlanError:
    return PlanError(
        "tables and lists are nested too deeply",
        key=dotted(place[:MOST_DEPTH]) or None,
        allowed=[f"at most {MOST_DEPTH} levels"],
    )


def check(data: dict[str, Any]) -> None:
    """Check all values of a plan, whatever they are for. Raises PlanError, with the key but without file and line."""
    left: list[tuple[Place, Any]] = [((), data)]
    keys = 0
    while left:
        place, value = left.pop()
        if len(place) > MOST_DEPTH:
            raise _too_deep(place)
        if isinstance(value, dict):
            keys += len(value)
            if keys > MOST_KEYS:
                allowed = [f"at most {MOST_KEYS:,} keys"]
                raise PlanError("has too many keys for a plan", key=dotted(place), allowed=allowed)
            for name in value:
                _check_text((*place, name), name)
            left += (((*place, name), inner) for name, inner in value.items())
        elif isinstance(value, list):
            left += (((*place, number), inner) for number, inner in enumerate(value))
        elif isinstance(value, str):
            _check_text(place, value)
        elif isinstance(value, int) and abs(value) > BIGGEST:
            # Its digits are shown in base 16: Python refuses to write more than 4,300 in base 10.
            found = f"{value:#x}" if value.bit_length() > 200 else str(value)
            limit = f"at least {-BIGGEST}" if value < 0 else _AT_MOST
            raise PlanError(limit, key=dotted(place), found=found)


def _check_text(place: Place, text: str) -> None:
    """Refuse what is no text: it cannot be hashed, written or named to the system."""
    if text.isascii() and "\0" not in text:
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PlanError("not UTF-8", key=dotted(place), found=ascii(text)) from None
    if "\0" in text:
        raise PlanError("holds a NUL character", key=dotted(place), found=ascii(text))
