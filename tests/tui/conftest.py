"""Local times are UTC here, whatever the machine's zone is."""

from __future__ import annotations

import time

import pytest


@pytest.fixture(autouse=True)
def utc(sealed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sealed` sets TZ; the C library has to be told."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
