"""The form that measured and published numbers share, and the reading of both from the database."""

from __future__ import annotations

import re
from dataclasses import dataclass

from prunectl.spec.task import DEFAULT_TASK
from prunectl.store.db import query
from prunectl.store.paths import StorePaths


@dataclass(frozen=True)
class Sample:
    """The median score of n networks, accuracy in percent (BLEU for gnmt); sparsity from 0 to 1."""

    network: str
    dataset: str
    structure: str
    """unstructured, or structured with what the publication adds (a set of filter ratios)."""
    schedule: str
    kind: str
    """one-shot or iterative."""
    prune_step: float | None
    """Fraction removed per iteration; None where it is not stated or does not apply."""
    strategy: str
    sparsity: float
    retrain_epochs: float | None
    """Epochs of each retraining; None where the publication has one length."""
    n: int
    median: float
    low: float | None
    high: float | None
    """The spread: minimum and maximum, or 10th and 90th percentile."""
    dense: float
    """Mean score of the dense networks of the same study."""
    label: str = ""
    """Figure of the publication; plan and recipe of ours."""
    cell: tuple[str, str, int] | None = None
    """Of ours: plan, cell and iteration."""

    @property
    def delta(self) -> float:
        """Change from the dense networks, percentage points."""
        return self.median - self.dense

    @property
    def compression(self) -> float:
        """Prunable weights of the dense network / weights kept."""
        return 1 / (1 - self.sparsity)


PUBLISHED_TASK = DEFAULT_TASK
"""The task of the publications' networks that ours may be beside."""

FULL_EPOCHS = {"resnet": 72_000 * 128 / 50_000, "wrn": 80_000 * 128 / 50_000}
REWOUND_EPOCHS = {"resnet": 64_000 * 128 / 50_000, "wrn": 72_000 * 128 / 50_000}
"""Mikler's lengths of retraining, which the table leaves out: all of training, or without its first 8,000 steps
(`weight-rewind`); batches of 128 out of 50,000 images."""


_PUBLISHED = """
SELECT network, dataset, structure, schedule, schedule AS kind, prune_step, method AS strategy, sparsity,
       retrain_epochs, coalesce(n, 1) AS n, median, low, high, dense, coalesce(figure, source) AS label
FROM (
    FROM published
    WHERE source = $1 AND method <> 'dense' AND median IS NOT NULL AND dense IS NOT NULL
    ORDER BY ALL
)
"""


def published(paths: StorePaths, source: str) -> list[Sample]:
    """Read a publication's pruned networks."""
    samples = []
    for row in query.run(paths, _PUBLISHED, [source]).dicts():
        row["retrain_epochs"] = row["retrain_epochs"] or _unstated_epochs(
            source, row["network"], row["strategy"]
        )
        samples.append(Sample(**row))
    return samples


def _unstated_epochs(source: str, network: str, method: str) -> float | None:
    if source != "mikler2021":
        return None
    lengths = REWOUND_EPOCHS if method == "weight-rewind" else FULL_EPOCHS
    return lengths[network.split("-")[0]]


_MEASURED = """
SELECT l.*, d.mean AS dense
FROM leaderboard l
JOIN leaderboard d ON d.iteration = 0 AND d.plan = l.plan AND d.network = l.network
     AND d.dataset = l.dataset AND d.task = l.task AND d.recipe = l.recipe
WHERE l.iteration > 0 AND l.n > 0 AND d.mean IS NOT NULL AND l.sparsity IS NOT NULL
  AND ($plan IS NULL OR l.plan = $plan)
ORDER BY ALL
"""


def measured(
    paths: StorePaths, plan: str | None = None
) -> tuple[list[Sample], list[tuple[Sample, str]]]:
    """Read our cells: those a publication may have, and apart those that none here can have, with the reason."""
    samples: list[Sample] = []
    unlike: list[tuple[Sample, str]] = []
    for row in query.run(paths, _MEASURED, {"plan": plan}).dicts():
        kind, step = schedule_kind(row["schedule"])
        sample = Sample(
            network=row["network"], dataset=row["dataset"],
            structure=structure(row["granularity"]),
            schedule=row["schedule"], kind=kind, prune_step=step, strategy=row["strategy"],
            sparsity=row["sparsity"], retrain_epochs=row["retrain_epochs"], n=row["n"],
            median=row["median"], low=row["min"], high=row["max"], dense=row["dense"],
            label=f"{row['plan']} {row['recipe']}",
            cell=(row["plan"], row["cell"], row["iteration"]),
        )  # fmt: skip
        pruned_by = (row["criterion"], row["scope"])
        if row["task"] != PUBLISHED_TASK:
            unlike.append((sample, f"{row['task']}: the publications have {PUBLISHED_TASK} alone"))
        elif row["granularity"] == "weight" and pruned_by != ("magnitude", "global"):
            unlike.append((sample, "the publications prune weights by global magnitude"))
        else:
            samples.append(sample)
    return samples, unlike


def structure(granularity: str) -> str:
    """Translate a granularity: ``filters renda2020-a`` to "structured-a", single weights to "unstructured"."""
    if granularity == "weight":
        return "unstructured"
    found = re.fullmatch(r"filters renda2020-([ab])", granularity)
    return f"structured-{found[1]}" if found else "structured"


def schedule_kind(label: str) -> tuple[str, float | None]:
    """Split a schedule's label: ``iterative 0.2`` into ("iterative", 0.2)."""
    found = re.match(r"([a-z]+(?:-[a-z]+)*)(?:.*?(\d*\.\d+))?", label)
    if not found:
        return label, None
    return found[1], float(found[2]) if found[2] else None
