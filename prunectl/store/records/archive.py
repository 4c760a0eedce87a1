"""The manifest of an exported study, `parcel.json`: written last, so that a folder that has one is whole."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.spec.ranges import Count, Small
from prunectl.store.records.base import Time


class FileEntry(msgspec.Struct, frozen=True):
    """One file of the folder."""

    bytes: Annotated[Count, Meta(description="its size, bytes")]
    sha256: Annotated[str, Meta(description="sha256 of its content, 64 hex digits")]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is inside."""

    format: Annotated[Small, Meta(description="version of the folder's layout")]
    prunectl: Annotated[str | None, Meta(description="version of prunectl that wrote it")] = None
    created: Annotated[Time, Meta(description="when it was written, Unix seconds")] = None
    plan: Annotated[str, Meta(description="name of the plan")] = ""
    digest: Annotated[str, Meta(description="digest of the plan's version")] = ""
    stages: Annotated[Count, Meta(description="stages that are inside, all done")] = 0
    stages_missing: Annotated[Count, Meta(description="stages of the plan that were not done")] = 0
    unsealed: Annotated[
        tuple[str, ...],
        Meta(description="records of older versions, which have no checksum of their own, by path"),
    ] = ()
    files: Annotated[
        dict[str, FileEntry], Meta(description="all other files, by path inside the folder")
    ]

    @property
    def bundle(self) -> str:
        """The digest of all other files: the sha256 of a line ``<sha256>  <path>`` for each, sorted by path.

        These are the lines of the program sha256sum.
        """
        lines = (f"{self.files[name].sha256}  {name}\n" for name in sorted(self.files))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
