"""The form that measured and published numbers share, and the reading of both from the database."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prunectl.spec.seeds import Seeds
from prunectl.spec.task import DEFAULT_TASK
from prunectl.spec.trial import SEEDS
from prunectl.store.db import query
from prunectl.store.paths import StorePaths


@dataclass(frozen=True)
class Sample:
    """The scores of n networks in the unit of their task, accuracy in percent (BLEU for gnmt); sparsity from 0 to 1."""

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
    """Figure of the publication; plan of ours."""
    band: str | None = None
    """What low and high are; of ours always min-max."""
    cell: tuple[str, str, int] | None = None
    """Of ours: plan, cell and iteration."""
    recipe: str = ""
    granularity: str = ""
    criterion: str = ""
    scope: str = ""
    task: str = DEFAULT_TASK
    level: float = 0.0
    """The sparsity that was asked for: what methods are compared at."""
    seeds: Mapping[Seeds, Seed] = field(default_factory=dict)
    """Of ours: what the trial with these seeds came to."""
    independent: bool = True
    """Whether any two of its trials differ in all seeds, and so are replications of each other."""
    sign: int = 1
    """−1 where a lower score is better."""
    selected: bool = False
    """Of ours: whether it is chosen among other cells by validation, whose retraining it costs all."""
    resolution: float = 0.0
    """What one test item more or less changes of a score; 0 where that is not known."""

    @property
    def delta(self) -> float:
        """Change from the dense networks, percentage points."""
        return self.median - self.dense

    @property
    def compression(self) -> float:
        """Prunable weights of the dense network / weights kept."""
        return 1 / (1 - self.sparsity)

    @property
    def condition(self) -> tuple[str, ...]:
        """What two methods have in common that a claim compares: it is judged for each condition apart."""
        return (
            self.label, self.network, self.dataset, self.task, self.recipe, self.structure, self.granularity,
            self.criterion, self.scope, self.schedule,
        )  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """What the trial of a cell with certain seeds came to."""

    score: float
    dense: float | None
    """Score of its own dense network."""
    failed: bool
    """Whether it diverged or collapsed."""
    ended: float = 0.0
    """When its stage was done, or the first of those that it was chosen among, Unix seconds."""


def three_values(sample: Sample) -> tuple[float, float, float] | None:
    """Return the scores of a published cell's three networks, where that is what it gives."""
    if sample.n != 3 or sample.band != "min-max" or sample.low is None or sample.high is None:
        return None
    return sample.low, sample.median, sample.high


PUBLISHED_TASK = DEFAULT_TASK
"""The task of the publications' networks that ours may be beside."""

FULL_EPOCHS = {"resnet": 72_000 * 128 / 50_000, "wrn": 80_000 * 128 / 50_000}
REWOUND_EPOCHS = {"resnet": 64_000 * 128 / 50_000, "wrn": 72_000 * 128 / 50_000}
"""Mikler's lengths of retraining, which the table leaves out: all of training, or without its first 8,000 steps
(`weight-rewind`); batches of 128 out of 50,000 images."""


_PUBLISHED = """
SELECT network, dataset, structure, schedule, schedule AS kind, prune_step, method AS strategy, sparsity,
       retrain_epochs, coalesce(n, 1) AS n, median, low, high, dense, coalesce(figure, source) AS label, band
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
        # Figures give sparsities with three digits or more.
        samples.append(Sample(**row, level=round(row["sparsity"], 3)))
    return samples


def _unstated_epochs(source: str, network: str, method: str) -> float | None:
    if source != "mikler2021":
        return None
    lengths = REWOUND_EPOCHS if method == "weight-rewind" else FULL_EPOCHS
    return lengths[network.split("-")[0]]


_MEASURED = """
WITH seeds AS (
    SELECT p.plan, p.cell, p.iteration,
           list({'seed': p.seed, 'order_seed': p.order_seed, 'augment_seed': p.augment_seed, 'score': p.score,
                 'dense': p.score - p.delta,
                 'failed': coalesce(p.flag IN ('diverged', 'collapsed'), false),
                 'ended': epoch(coalesce(k.first_ended, s.ended))}) AS seeds
    FROM points p JOIN stages s USING (stage) LEFT JOIN picks k
         ON k.plan = p.plan AND k.cell = p.cell AND k.iteration = p.iteration AND k.seed = p.seed
         AND k.order_seed = p.order_seed AND k.augment_seed = p.augment_seed
    WHERE p.iteration > 0 AND p.score IS NOT NULL AND ($plan IS NULL OR p.plan = $plan)
    GROUP BY ALL
)
SELECT l.*, d.mean AS dense, s.seeds, coalesce(t.sign, 1) AS sign
FROM leaderboard l
JOIN seeds s USING (plan, cell, iteration)
JOIN leaderboard d ON d.iteration = 0 AND d.plan = l.plan AND d.network = l.network
     AND d.dataset = l.dataset AND d.task = l.task AND d.recipe = l.recipe
LEFT JOIN directions t ON t.task = l.task
WHERE l.iteration > 0 AND l.n > 0 AND d.mean IS NOT NULL AND l.sparsity IS NOT NULL
  AND ($plan IS NULL OR l.plan = $plan)
ORDER BY ALL
"""


def measured(paths: StorePaths, plan: str | None = None) -> list[Sample]:
    """Read our cells, of one plan or of all."""
    samples: list[Sample] = []
    for row in query.run(paths, _MEASURED, {"plan": plan}).dicts():
        kind, step = schedule_kind(row["schedule"])
        seeds = {Seeds(*(each.pop(name) for name in SEEDS)): Seed(**each) for each in row["seeds"]}
        sample = Sample(
            network=row["network"], dataset=row["dataset"], task=row["task"], recipe=row["recipe"],
            structure=structure(row["granularity"]), granularity=row["granularity"], criterion=row["criterion"],
            scope=row["scope"],
            schedule=row["schedule"], kind=kind, prune_step=step, strategy=row["strategy"],
            sparsity=row["sparsity"], level=row["target_sparsity"], retrain_epochs=row["retrain_epochs"], n=row["n"],
            median=row["median"], low=row["min"], high=row["max"], band="min-max", dense=row["dense"],
            label=row["plan"], cell=(row["plan"], row["cell"], row["iteration"]), seeds=seeds, sign=row["sign"],
            resolution=row["resolution"] or 0.0, independent=row["independent"], selected=row["selected"],
        )  # fmt: skip
        samples.append(sample)
    return samples


REWIND_AT_MOST = 0.9
"""Weight rewinding's main length: the largest t ≤ 0.9 T (METHODS A1: the authors' rule for their plots)."""


def at_main_length(samples: Iterable[Sample]) -> list[Sample]:
    """Select the samples at the main length of their method: the longest, for weight rewinding the longest ≤ 0.9 T.

    T is the longest retraining under the same condition, sweeps left out, whose lengths are sums; samples without a
    length count as they are.
    """
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.condition, []).append(sample)
    out: list[Sample] = []
    for group in groups.values():
        full = max((s.retrain_epochs or 0.0 for s in group if not s.selected), default=0.0)
        for strategy in {s.strategy: None for s in group}:
            own = [s for s in group if s.strategy == strategy]
            lengths = sorted({s.retrain_epochs or 0.0 for s in own})
            if strategy == "weight-rewind":
                lengths = [t for t in lengths if t <= REWIND_AT_MOST * full + 1e-9] or lengths
            out += [s for s in own if (s.retrain_epochs or 0.0) == lengths[-1]]
    return out


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
