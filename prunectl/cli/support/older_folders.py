"""Finished stages on folders of images whose key is of an older kind: said once, before they are trained anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunectl.cli.support.terminal import narrate
from prunectl.store.paths import StorePaths
from prunectl.store.records.stage import has_result
from prunectl.text import plural

if TYPE_CHECKING:  # the plan's models take 0.5 s to import
    from prunectl.plan.expand import Expansion


def tell_of_older_folders(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    """Write a note where plans are to train on folders, and their store has finished such stages under older keys.

    A plan's newest version in the store is looked at, so that nothing is said once it was recorded anew.
    """
    from prunectl.ml.datasets.listing import has_older_key
    from prunectl.store.records.plan import current_studies

    on_folders = (
        key
        for expansion in expansions
        for key, stage in expansion.stages.items()
        if stage.data.name == "folder"
    )
    if all(has_result(paths, key) for key in on_folders):
        return
    older = {
        key
        for study in current_studies(paths)
        for key, stage in study.stages.items()
        if has_older_key(stage.spec.stage.data) and has_result(paths, key)
    }
    if older:
        narrate(
            f"note: {paths.root} has {plural(len(older), 'finished stage')} on folders of images whose keys cover less "
            "than they do now (neither the names of classes nor, of large folders, every file): none of them is reused"
        )
