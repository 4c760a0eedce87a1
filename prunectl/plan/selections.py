"""What a plan chooses by validation: its `[[select]]` held against its grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prunectl.errors import PlanError
from prunectl.plan import labels, strategies
from prunectl.plan.levels import Ladder
from prunectl.plan.load import LoadedPlan
from prunectl.plan.points import GridPoint
from prunectl.plan.schema import Strategy
from prunectl.plan.select_table import SelectTable
from prunectl.plan.training import Training
from prunectl.spec.selection import Over, SelectedCell, Selection
from prunectl.spec.trial import Trial

_EXAMPLE = 10
"""One of so many training images is what an error proposes to hold out."""


@dataclass(frozen=True)
class Sweep:
    """A `[[select]]` whose names are those of the grid."""

    key: str
    """Where it stands in the plan."""
    name: str
    over: Over
    among: tuple[str, ...]
    """Strategies, in the order of the grid."""


class Candidate(NamedTuple):
    """A cell of the grid: what may be an option."""

    point: GridPoint
    ladder: Ladder
    trial: Trial
    """That of seed 0."""


def sweeps_of(plan: LoadedPlan) -> tuple[Sweep, ...]:
    """Return the sweeps that the plan chooses from, without looking at cells.

    Raises PlanError for a strategy that the grid does not have, for fewer than two options, for a name that is taken.
    """
    found: list[Sweep] = []
    for number, table in enumerate(plan.content.select):
        key = f"select[{number}]"
        among = _among(plan, table, key)
        name = table.name or f"{among[0]}, {table.over} by validation"
        for other in found:
            if (other.over, other.among) == (table.over, among):
                raise plan.fail(f"chooses among the same as {other.name!r}", key)
        _check_name(plan, name, key if table.name is None else f"{key}.name", found)
        found.append(Sweep(key, name, table.over, among))
    return tuple(found)


def _check_name(plan: LoadedPlan, name: str, key: str, others: Iterable[Sweep]) -> None:
    taken = {*plan.content.grid.strategy, *plan.content.strategies, strategies.DENSE}
    if name in taken or strategies.built_in(name):
        raise plan.fail(
            "a strategy has this name: give the selection another", key, found=name, suggestion=""
        )
    if any(other.name == name for other in others):
        raise plan.fail(
            "another selection has this name: give one of them a `name`", key, found=name
        )


def _among(plan: LoadedPlan, table: SelectTable, key: str) -> tuple[str, ...]:
    """Find the strategies of a selection, in the order of the grid. Raises PlanError."""
    grid = [name for name in plan.content.grid.strategy if name != strategies.DENSE]
    known = {name: _strategy(plan, name) for name in grid}
    if table.among is not None:
        for number, name in enumerate(table.among):
            if name not in known:
                raise plan.fail(
                    "not a strategy of the grid", f"{key}.among[{number}]", found=name, allowed=grid
                )
        if len(set(table.among)) < len(table.among):
            raise plan.fail("names a strategy twice", f"{key}.among", found=str(list(table.among)))
    named = grid if table.among is None else [name for name in grid if name in table.among]
    if table.over == "retrain":
        return _one_of_lengths(plan, table, key, named)
    sets = _alike(named, known)
    if table.among is not None and len(sets) > 1:
        first, other = sets[0][0], sets[1][0]
        raise plan.fail(
            f"{other} and {first} differ in {_difference(known[first], known[other])}, not in lr_window alone",
            f"{key}.among",
        )
    several = [names for names in sets if len(names) > 1]
    if not several:
        raise plan.fail(
            "nothing to choose from: needs at least two strategies that differ in lr_window alone",
            f"{key}.among" if table.among is not None else key,
            found=", ".join(named) or "none",
        )
    if len(several) > 1:
        raise plan.fail(
            "the grid has several sets of strategies that differ in lr_window alone: say which by `among`",
            key,
            found="; ".join(", ".join(names) for names in several),
        )
    return tuple(several[0])


def _one_of_lengths(
    plan: LoadedPlan, table: SelectTable, key: str, named: Sequence[str]
) -> tuple[str, ...]:
    """Return the one strategy whose lengths of retraining are the options. Raises PlanError."""
    lengths = plan.content.grid.retrain or ()
    if len(lengths) < 2:
        raise plan.fail(
            "nothing to choose from: needs at least two lengths of retraining in grid.retrain",
            f"{key}.over",
            found=f"grid.retrain = {[str(each) for each in lengths]}"
            if lengths
            else "no grid.retrain",
        )
    own = plan.content.strategies
    free = [name for name in named if not strategies.fixes_length(name, own)]
    if len(free) != 1:
        allowed = [
            f'["{name}"]'
            for name in plan.content.grid.strategy
            if name != strategies.DENSE and not strategies.fixes_length(name, own)
        ]
        raise plan.fail(
            "chooses among the lengths of one strategy that does not fix its length itself: name it by `among`",
            f"{key}.among",
            found=str(list(named)),
            allowed=allowed,
            suggestion="",
        )
    return (free[0],)


def _strategy(plan: LoadedPlan, name: str) -> Strategy:
    with plan.naming("grid.strategy"):
        return strategies.find(name, plan.content.strategies)


def _alike(names: Sequence[str], known: dict[str, Strategy]) -> list[list[str]]:
    """Put strategies together that differ in lr_window alone; how long they retrain is looked at in their cells."""
    out: list[list[str]] = []
    for name in names:
        mine = next((each for each in out if not _difference(known[each[0]], known[name])), None)
        if mine is None:
            out.append([name])
        else:
            mine.append(name)
    return out


def _difference(a: Strategy, b: Strategy) -> str:
    """Name the keys that two strategies differ in, but for lr_window and retrain; "" where there are none."""
    names = ("weights_from", "optimizer_state", "batchnorm")
    return ", ".join(name for name in names if getattr(a, name) != getattr(b, name))


def selections(
    plan: LoadedPlan, sweeps: Sequence[Sweep], candidates: Sequence[Candidate]
) -> tuple[Selection, ...]:
    """Find the cells that each sweep chooses among.

    Args:
        plan: the plan, whose mistakes are named.
        sweeps: `sweeps_of` it.
        candidates: its cells, in the order of the grid.

    Raises PlanError where there is no validation split carved from the training set, and where a cell has fewer than
    two options.
    """
    return tuple(_selection(plan, sweep, candidates) for sweep in sweeps)


def _selection(plan: LoadedPlan, sweep: Sweep, candidates: Sequence[Candidate]) -> Selection:
    groups: dict[object, list[Candidate]] = {}
    for each in candidates:
        if each.point.strategy in sweep.among:
            groups.setdefault(_place(sweep, each), []).append(each)
    if not groups:
        raise plan.fail("the grid skips all that it chooses among", sweep.key)
    options = {
        (each.trial.strategy, each.trial.retrain): None
        for group in groups.values()
        for each in group
    }
    strategy = labels.own(sweep.name, [sweep.over, *options])
    cells = []
    for group in groups.values():
        _check_validation(plan, sweep, group[0].point.training)
        distinct = list({each.trial.path: each.trial.cell for each in reversed(group)}.values())
        distinct.reverse()
        if len(distinct) < 2:
            raise _too_few(plan, sweep, group, options)
        cells.append(SelectedCell(labels.identifier(strategy, *distinct), tuple(distinct)))
    return Selection(strategy, sweep.over, "validation", tuple(cells))


def _place(sweep: Sweep, each: Candidate) -> object:
    """What options of one cell have in common."""
    where = (id(each.point.training), each.point.schedule, each.ladder)
    retraining = each.point.retraining
    # Resolved, as the same length may be the strategy's own, the grid's or the recipe's.
    return (*where, retraining.steps) if sweep.over == "lr_window" and retraining else where


def _check_validation(plan: LoadedPlan, sweep: Sweep, training: Training) -> None:
    split = training.recipe.validation
    if split.taken_from == "train":
        return
    example = f'[recipe.validation] with from = "train" and count = {training.description.train // _EXAMPLE}'
    if split.taken_from == "none":
        message = (
            f"choosing by validation needs a part of the training set that is held out: {example}"
        )
    else:
        message = (
            "choosing by validation needs a part that is held out from the training set; this recipe takes it from "
            f"the test set, which would be choosing on what is reported: {example}"
        )
    found = f'{training.name}: validation from "{split.taken_from}"'
    raise plan.fail(message, f"{sweep.key}.by", found=found, suggestion="")


def _too_few(
    plan: LoadedPlan, sweep: Sweep, group: Sequence[Candidate], options: Iterable[tuple[str, str]]
) -> PlanError:
    """Make the error about a cell with one option: those of the cell, or all that were meant."""
    one = group[0].trial
    where = " · ".join((one.network, one.dataset, one.schedule))
    shown = options
    if len(group) > 1:
        why = "these are the same stages"
        shown = [(each.trial.strategy, each.trial.retrain) for each in group]
    elif sweep.over == "retrain":
        why = "needs at least two lengths of retraining"
    else:
        why = "needs at least two strategies that retrain for the same length"
    found = ", ".join(f"{strategy} ({retrain})" for strategy, retrain in shown)
    message = f"nothing to choose from at {where}: {why}"
    return plan.fail(message, sweep.key, found=found, suggestion="")
