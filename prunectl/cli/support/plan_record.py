"""Compare a plan's record, which anybody may have written, with what its text says."""

from __future__ import annotations

from collections.abc import Callable

from prunectl.errors import DataError, PrunectlError, StoreError, shown
from prunectl.spec.study import Study
from prunectl.spec.trial import LABELS, SEEDS, Trial, without_digits


def check_plan_record(study: Study, tell: Callable[[str], None]) -> None:
    """Derive trials, labels, cells, paths and sparsities again from the text, without data, torch or networks.

    Where that cannot be, as for folders of images that are not here or a version with other keys, `tell` hears of it.
    Raises StoreError for a difference, and for a text that is no plan.
    """
    from prunectl.plan.expand import expand  # the plan's models take 0.5 s to import
    from prunectl.plan.levels import UNKNOWN
    from prunectl.plan.load import loads

    where = f"the record of plan {study.name}, version {study.digest}"
    try:
        loaded = loads(study.text, file=study.file, overrides=study.overrides)
        expansion = expand(loaded, None)
        derived = {trial.id: trial for trial in expansion.trials}
    except (DataError, OSError) as error:
        tell(
            f"{study.name}: its record is taken as it is, as its data cannot be looked at here: {error}"
        )
        return
    except PrunectlError as error:
        raise StoreError(f"{where}: its text is no plan here: {error}") from error
    found = {trial.id: trial for trial in study.trials}
    if found.keys().isdisjoint(derived):
        tell(
            f"{study.name}: its record is taken as it is: this version makes other keys of its text"
        )
        return
    if study.claims != expansion.claims:
        raise StoreError(f"{where}: it claims other things than its text")
    if study.selections != expansion.selections:
        raise StoreError(f"{where}: it chooses among other things by validation than its text")
    if odd := found.keys() ^ derived.keys():
        raise StoreError(f"{where}: trial {shown(min(odd))} is in one of record and text only")
    for name, trial in found.items():
        for field, said, meant in _differences(trial, derived[name], UNKNOWN):
            raise StoreError(
                f"{where}: trial {name} has {field} {said!r}, where its text says {meant!r}"
            )


def _differences(found: Trial, derived: Trial, unknown: str) -> list[tuple[str, object, object]]:
    """List the fields that differ: name, what the record says, what the text says."""
    out: list[tuple[str, object, object]] = []
    for name in (*LABELS, "plan", "task", "cell", *SEEDS, "path"):
        said, meant = getattr(found, name), getattr(derived, name)
        if name in LABELS:  # older versions left out the digits of what a plan defines itself
            said, meant = (said, meant) if "@" in said else (said, without_digits(meant))
        if said != meant:
            out.append((name, said, meant))
    pairs = zip(found.sparsities, derived.sparsities, strict=False)
    if len(found.sparsities) != len(derived.sparsities) or any(
        said != meant for said, meant in pairs if meant != unknown
    ):
        out.append(("sparsities", found.sparsities, derived.sparsities))
    return out
