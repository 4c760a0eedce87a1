"""For what the installed torch was built, without importing it, which takes a second."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

_FIELD = r"^{name}\b[^=\n]*=\s*'([^'\n]*)'"


@dataclass(frozen=True)
class TorchBuild:
    """An installed torch."""

    version: str
    cuda: str | None
    """CUDA's version that it was built for; None for a build without."""


def torch_build() -> TorchBuild | None:
    """Return what torch/version.py says; None where torch is not installed or says it in another way."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    version, cuda = (_field(text, name) for name in ("__version__", "cuda"))
    return None if version is None else TorchBuild(version, cuda)


def _field(text: str, name: str) -> str | None:
    found = re.search(_FIELD.format(name=re.escape(name)), text, re.MULTILINE)
    return None if found is None else found.group(1)
