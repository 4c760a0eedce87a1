"""NVIDIA's cards in this machine, whether there is a driver for them or not."""

from __future__ import annotations

import contextlib
from pathlib import Path

NVIDIA, DISPLAY = "0x10de", "0x03"
"""PCI's number of the vendor, and how the class of a display or 3D controller begins."""


def nvidia_cards(sys: Path = Path("/sys")) -> list[str]:
    """List their PCI addresses."""
    found = []
    for folder in sorted(sys.glob("bus/pci/devices/*")):
        with contextlib.suppress(OSError):
            vendor = (folder / "vendor").read_text().strip()
            if vendor == NVIDIA and (folder / "class").read_text().startswith(DISPLAY):
                found.append(folder.name)
    return found
