"""Replicating a study: which of its stages are run again, and as which plan."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from prunectl.errors import StoreError
from prunectl.spec.key import spec_key
from prunectl.spec.stage import Stage
from prunectl.spec.study import Study
from prunectl.spec.trial import Trial
from prunectl.store.bundle import Bundle


def choose(bundle: Bundle, count: int | None, seed: int) -> list[str]:
    """Choose `count` done stages, or all with None, at random: those whose hash with the seed comes first."""
    planned = {key for trial in bundle.study.trials for key in trial.path}
    order = sorted(bundle.done & planned, key=lambda key: _hash(f"{seed}\0{key}"))
    return order[:count]


def restricted(study: Study, chosen: Collection[str]) -> Study:
    """Make the plan that has the chosen stages and their ancestors, and nothing else.

    Each is on the path of one trial, cut after the last stage that is wanted of it. It is another plan, with a name,
    trials and cells of its own, and without file and text, which ask for more.

    Raises StoreError where a stage needs one that the study does not have, is not what its key says, or cannot be
    computed by this version.
    """
    chosen = frozenset(chosen)
    needed = _with_ancestors(study, chosen)
    cut: dict[str, tuple[Trial, list[int]]] = {}
    covered: set[str] = set()
    # Longest first, so that a dense network is on the path of what starts from it.
    for trial in sorted(study.trials, key=lambda trial: -_end(trial, chosen)):
        if any(key in chosen and key not in covered for key in trial.path):
            places = [k for k in range(_end(trial, chosen)) if trial.path[k] in needed]
            cut[trial.id] = trial, places
            covered.update(trial.path[k] for k in places)
    digest = _hash("\0".join((study.digest, *sorted(chosen))))[:16]
    name = f"{study.name}-replication"
    return replace(
        study,
        digest=digest,
        name=name,
        file="",
        text="",
        overrides=(),
        trials=tuple(_cut(*each, name, digest) for each in cut.values()),
        stages={key: study.stages[key] for key in study.stages if key in needed},
    )


def _with_ancestors(study: Study, chosen: Collection[str]) -> set[str]:
    found: set[str] = set()
    left = list(chosen)
    while left:
        key = left.pop()
        if key in found:
            continue
        if key not in study.stages:
            raise StoreError(f"plan {study.name} lacks stage {key[:12]}, which others of it need")
        found.add(key)
        left += _checked(study, key).needs
    return found


def _checked(study: Study, key: str) -> Stage:
    spec = study.stages[key].spec
    if spec_key(spec) != key:
        raise StoreError(f"plan {study.name}: stage {key[:12]} is not what its key stands for")
    try:
        return spec.computable
    except ValueError as error:
        raise StoreError(f"plan {study.name}: stage {key[:12]} is of {error}") from error


def _end(trial: Trial, chosen: Collection[str]) -> int:
    """Return the length of the trial's path up to the last chosen stage."""
    return max((k + 1 for k, key in enumerate(trial.path) if key in chosen), default=0)


def _cut(trial: Trial, places: Sequence[int], plan: str, digest: str) -> Trial:
    """Make the trial of another plan that has these stages of its path."""
    # With the digest: an id stands for one path, also in the plans of other choices.
    cell = _hash(f"{digest}\0{trial.cell}")[:16]
    return replace(
        trial,
        id=_hash(f"{cell}\0{trial.seeds}")[:16],
        cell=cell,
        plan=plan,
        path=tuple(trial.path[k] for k in places),
        sparsities=tuple(trial.sparsities[k] for k in places),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
