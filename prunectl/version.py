"""The version of the package, and of the code that a process would load now; needs no other module of the package."""

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

__version__ = "0.1.0"


@cache
def code_hash(*folders: Path) -> str:
    """Hash the Python, TOML and SQL files under some folders, their names included. Reading the package takes 15 ms.

    Not read again in the life of a process, which has loaded its own code long before that may change.
    """
    content = hashlib.sha256()
    for folder in folders:
        files = (path for path in folder.rglob("*.*") if path.suffix in (".py", ".toml", ".sql"))
        for file in sorted(files):
            data = file.read_bytes()
            content.update(f"{folder.name}/{file.relative_to(folder)}\0{len(data)}\0".encode())
            content.update(data)
    return content.hexdigest()


def code_version() -> str:
    """Return what names the code that computes stages in this process: version and content of the package, and torch's
    version."""
    content = code_hash(Path(__file__).parent)
    return f"prunectl {__version__} ({content[:12]}) with torch {metadata.version('torch')}"
