"""Marks and verdicts of simulated studies, whose truth is known: how often they are wrong, and what they can see.

Scores have a part of the seed that all methods share, a part of the method in that seed that is the same along the
ladder, and noise of their own; spreads differ by up to eight times between methods; seeds are missing and diverge at
random. Printed (`pytest -s`, `python -m tests.full statistics`) is what README says of it.
"""

from __future__ import annotations

import math
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy.stats import binom

from prunectl.results import power, relations
from prunectl.results.claims import judge
from prunectl.results.samples import Sample, Seed
from prunectl.spec.claim import Claim
from prunectl.store.db import schema
from tests.full import full
from tests.support.score_tables import fill, marks

LEVELS = 2
COLUMNS = 20_000 if full() else 1_000
CLAIMS = 20_000 if full() else 400
SURE = 1 - 1e-4
"""A test that is right fails once in ten thousand runs, were it not seeded."""
ROWS: list[tuple[str, int, int, str]] = []
"""What it is, methods, seeds, and what was seen."""


@pytest.fixture(scope="module", autouse=True)
def printed() -> Any:
    """Print all rates at the end, as a table."""
    yield
    print(f"\n{table(ROWS)}")


def table(rows: list[tuple[str, int, int, str]]) -> str:
    """Write them as README has them: percent, a column for each number of seeds."""
    numbers = sorted({seeds for _, _, seeds, _ in rows})
    found = {(what, methods, seeds): seen for what, methods, seeds, seen in rows}
    heads = ["what", "methods", *(f"n = {seeds}" for seeds in numbers)]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for what, methods in dict.fromkeys(row[:2] for row in rows):
        cells = [found.get((what, methods, seeds), "") for seeds in numbers]
        lines.append([what, str(methods), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def say(what: str, methods: int, seeds: int, rate: float, beside: str = "") -> None:
    ROWS.append((what, methods, seeds, f"{100 * rate:.1f}{beside}"))


def at_most(count: int, of: int, rate: float = 0.05) -> bool:
    """Whether so many may be seen where the probability is at most `rate`."""
    return count <= binom.ppf(SURE, of, rate)


def drawn(draw: Any, studies: int, methods: int, seeds: int, *, unequal: bool) -> Any:
    """Scores [studies, methods, levels, seeds] of methods that are equally good."""
    spread = np.exp(draw.uniform(math.log(0.1), math.log(0.8), (studies, methods, 1, 1)))
    spread = spread if unequal else np.full_like(spread, 0.3)
    shape = (studies, methods, 1, seeds)
    along = draw.normal(0, 1, shape) * 0.8
    own = draw.normal(0, 1, (studies, methods, LEVELS, seeds)) * 0.6
    return 90 + draw.normal(0, 0.3, (studies, 1, 1, seeds)) + spread * (along + own)


def marked(scores: Any, failed: Any = None) -> Any:
    """The marks [studies, methods, levels] by the view."""
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        schema.create(connection)
        fill(connection, scores, failed)
        return marks(connection, scores.shape)


CASES = [
    *((k, n, True, False) for k in (2, 3, 6, 10) for n in (3, 5, 10)),
    *((k, 3, False, False) for k in (3, 6, 10)),
    *((k, n, True, True) for k in (3, 6) for n in (4, 6)),
]
SHORT = [(3, 3, True, False), (6, 3, True, False), (10, 3, False, False), (6, 5, True, True)]


@pytest.mark.usefixtures("bare_tables")
@pytest.mark.parametrize(("methods", "seeds", "unequal", "holes"), CASES if full() else SHORT)
def test_a_truly_best_method_is_marked(
    methods: int, seeds: int, unequal: bool, holes: bool
) -> None:
    draw = np.random.default_rng((methods, seeds, unequal, holes))
    size = COLUMNS // LEVELS
    scores = drawn(draw, size, methods, seeds, unequal=unequal)
    failed = np.zeros(scores.shape, bool)
    if holes:
        scores[draw.random(scores.shape) < 0.1] = np.nan
        failed = (draw.random(scores.shape) < 0.05) & ~np.isnan(scores)
        scores[failed] = 10 + draw.normal(0, 0.3, failed.sum())
    found = marked(scores, failed)
    there = ~np.isnan(scores)
    sound = (there & ~failed).any(1, keepdims=True)  # another method was there and did not fail
    uneven = (failed & sound).any(3)
    promised = (there.sum(3) >= 3) & ~uneven
    assert (found[~promised] == 0).all()
    # The first method stands for the truly best one: all are equal, which is the hardest case for it.
    asked, missed = promised[:, 0], promised[:, 0] & (found[:, 0] == 0)
    demoted = (promised & (found == 0)).any(1)[promised.sum(1) > 1].mean()
    kind = ", ".join(
        [("unequal" if unequal else "equal") + " spreads", *(["holes"] if holes else [])]
    )
    say(
        f"best unmarked; in brackets: any demoted ({kind})",
        methods,
        seeds,
        missed.sum() / asked.sum(),
        f" ({100 * demoted:.0f})",
    )
    # Levels of one study are correlated: each is a sample by itself.
    for level in range(LEVELS):
        assert at_most(int(missed[:, level].sum()), int(asked[:, level].sum()))


@pytest.mark.usefixtures("bare_tables")
def test_a_removed_seed_does_not_move_the_star() -> None:
    """Of a method that is ahead in every seed, where seeds differ by more than methods do."""
    draw = np.random.default_rng(8)
    studies, methods, seeds = 500, 3, 4
    scores = 90 + draw.normal(0, 2, (studies, 1, 1, seeds)) + np.zeros((1, methods, 1, 1))
    scores[:, 1:] -= draw.uniform(0.05, 0.5, (studies, methods - 1, 1, seeds))
    study = np.arange(studies)
    removed = study % methods, study // methods % seeds
    scores[study, removed[0], 0, removed[1]] = np.nan
    # By the means of what is there another one would lead in many of them.
    assert (np.nanmean(scores, 3)[:, :, 0].argmax(1) != 0).mean() > 0.3
    assert (marked(scores)[:, 0, 0] == 2).all()


@pytest.mark.usefixtures("bare_tables")
@pytest.mark.parametrize(
    ("methods", "seeds"), [(2, 3), (3, 3), (6, 5), (10, 10)] if full() else [(3, 3)]
)
def test_the_smallest_gap_is_told_as_often_as_the_page_says(methods: int, seeds: int) -> None:
    draw = np.random.default_rng((methods, seeds))
    scores = drawn(draw, COLUMNS // LEVELS, methods, seeds, unequal=False)
    difference = 0.3 * math.sqrt(2)  # of two methods in one seed
    tail = relations.TAIL / (methods - 1)
    scores[:, 0] += power.smallest_gap(difference, seeds, tail)
    found = marked(scores)
    told = (found[:, 1, 0] == 0).mean()
    say("a smallest gap is not told (promised 20 %)", methods, seeds, 1 - told)
    assert told == pytest.approx(power.POWER, abs=0.05)


# Claims


def study(gains: Any, failed: Any, condition: str) -> list[Sample]:
    """Two methods whose differences are `gains` [levels, seeds]; NaN is a seed that b lacks."""
    out = []
    for level, row in enumerate(gains):
        for name, scores, flags in (
            ("a", 90 + np.nan_to_num(row), failed[level]),
            ("b", np.where(np.isnan(row), np.nan, 90.0), np.zeros(len(row), bool)),
        ):
            seeds = {
                seed: Seed(10.0 if flags[seed] else float(score), 90.0, bool(flags[seed]))
                for seed, score in enumerate(scores)
                if not np.isnan(score)
            }
            out.append(
                Sample(
                    *(condition, "cifar10", "unstructured", "iterative 0.2", "iterative", 0.2),
                    *(name, level / 10, 10.0, len(seeds), 90.0, None, None, 90.0),
                    level=level / 10,
                    seeds=seeds,
                )
            )
    return out


def verdicts(draw: Any, claim: Claim, truths: list[float], seeds: int, holes: bool) -> list[str]:
    """Judge a claim in studies of as many conditions as there are true differences."""
    out = []
    for _ in range(CLAIMS):
        samples: list[Sample] = []
        for number, truth in enumerate(truths):
            shared = draw.normal(truth, draw.uniform(0.05, 0.6), (1, seeds))
            gains = shared + draw.normal(0, 0.2, (3, seeds))
            failed = np.zeros(gains.shape, bool)
            if holes:
                gains[draw.random(gains.shape) < 0.05] = np.nan
                failed = draw.random(gains.shape) < 0.02
            samples += study(gains, failed, f"n{number}")
        out.append(judge(claim, samples).verdict)
    return out


EDGES = {"better": (0.0, 0.0), "worse": (0.0, 0.0), "as-good": (0.25, -0.25), "equal": (0.5, 0.5)}
"""By relation: the margin, and the true difference at which it is neither true nor false by anything."""


@pytest.mark.parametrize("seeds", [2, 3, 5, 10] if full() else [3])
@pytest.mark.parametrize("relation", EDGES)
def test_a_claim_is_rarely_judged_wrongly(relation: Any, seeds: int) -> None:
    """At the edge of being true, where both verdicts are wrong and each is most frequent."""
    margin, edge = EDGES[relation]
    claim = Claim("a", "b", relation, margin)
    for conditions, holes in ((1, False), (1, True), (4, False)):
        draw = np.random.default_rng((seeds, conditions, holes, *map(ord, relation[:2])))
        found = verdicts(draw, claim, [edge] * conditions, seeds, holes)
        for verdict in ("supported", "contradicted"):
            count = found.count(verdict)
            kind = (
                f"{conditions} conditions"
                if conditions > 1
                else "holes"
                if holes
                else "1 condition"
            )
            say(f"{relation}: {verdict} ({kind})", 2, seeds, count / len(found))
            assert at_most(count, len(found)), (verdict, conditions, holes)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10] if full() else [5])
def test_verdicts_are_reached_as_often_as_the_page_says(seeds: int) -> None:
    """At the true spread: the power of a claim is what the number of seeds is computed from."""
    spread, level = 0.3, 0.2 / math.sqrt(3)
    total = math.hypot(spread, level)
    effect = power.smallest_gap(total, seeds, relations.TAIL)
    draw = np.random.default_rng(seeds)
    count = 0
    for _ in range(CLAIMS):
        gains = draw.normal(effect, spread, (1, seeds)) + draw.normal(0, 0.2, (3, seeds))
        judged = judge(Claim("a", "b", "better"), study(gains, np.zeros(gains.shape, bool), "n"))
        count += judged.verdict == "supported"
    say("better: not supported at a gap of 80 % power", 2, seeds, 1 - count / CLAIMS)
    assert count / CLAIMS == pytest.approx(power.POWER, abs=0.05)
