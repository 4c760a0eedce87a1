"""`replicate`: run stages of an exported study again, and say whether the same comes out."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.data_check import check_data, find_places
from prunectl.cli.support.execution import Execution, choose_devices, record, schedule
from prunectl.cli.support.fresh_results import bring_up_to_date
from prunectl.cli.support.options import DataOption, SlotsByOption, SlotsOption
from prunectl.cli.support.progress import stage_names
from prunectl.cli.support.tables import console, table
from prunectl.cli.support.terminal import Counts, narrate
from prunectl.cli.support.verdicts import VERDICTS, verdict_counts
from prunectl.errors import ControlError, ExitCode
from prunectl.spec.ranges import BIGGEST
from prunectl.store.files import set_aside
from prunectl.store.paths import StorePaths
from prunectl.store.records.stage import has_result
from prunectl.store.tensors import CorruptFile
from prunectl.text import plural

if TYPE_CHECKING:  # rich and msgspec's records take 0.1 s to import
    from rich.table import Table

    from prunectl.scheduler.devices.base import Device
    from prunectl.spec.stage import Stage
    from prunectl.spec.study import Study
    from prunectl.store.bundle import Bundle
    from prunectl.store.records.replication import Outcome, Replication

STAGES = 5
"""Without an option."""


def replicate(
    bundle: Annotated[Path, typer.Argument(help="What `export --study` made.", show_default=False)],
    stages: Annotated[
        int | None,
        typer.Option(min=1, help=f"How many, chosen at random. Default: {STAGES}."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All its stages instead.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=BIGGEST,
            help="Of the choice. Default: that of the call before in the same store, else a random one.",
            show_default=False,
        ),
    ] = None,
    from_parents: Annotated[
        bool,
        typer.Option(
            "--from-parents", help="Start from the bundle's stages, and run the chosen ones alone."
        ),
    ] = False,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            help="Folder to run them in, of its own. Default: BUNDLE-replication here.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            help="Another store that gets the verdicts, too. Default: PRUNECTL_STORE or ./store, where it has this "
            "version of the plan.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    data: DataOption = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images",
            help="Where the images of a data set of the authors' own lie here (repeatable). Default: where a plan of "
            "this machine has used them.",
            show_default=False,
        ),
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="all, cpu, or cuda:0,cuda:1. Default: all.")
    ] = None,
    slots: SlotsOption = None,
    slots_by: SlotsByOption = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do not ask before a run of more than a day on the CPU."),
    ] = False,
) -> None:
    """Run stages of an exported study again, and compare what comes out; exits with 4 where it differs."""
    from prunectl.results.replicate import choose, restricted
    from prunectl.store.bundle import claim, open_bundle, outcome
    from prunectl.store.records.replication import Replica, replica_of

    if every and stages is not None:
        raise typer.BadParameter("give either --stages or --all")
    paths = _own_store(bundle, store, from_parents)
    source = open_bundle(bundle, Counts())
    others = _other_stores(source, paths, into)
    before = replica_of(paths)
    if seed is None:
        seed = secrets.randbelow(10**6) if before is None else before.seed
    chosen = choose(source, None if every else stages or STAGES, seed)
    study = restricted(source.study, chosen)
    there = {key: outcome(source.paths, key)[1] for key in chosen}
    parents = tuple(sorted(chosen)) if from_parents else None
    claim(paths, Replica(bundle=source.digest, seed=seed, parents=parents))
    _say(source, study, chosen, seed, paths, from_parents)
    source.take_datasets(paths)
    if from_parents:
        source.take(source.done & study.stages.keys() - set(chosen), paths)
    todo = {key: each.stage for key, each in study.stages.items() if not has_result(paths, key)}
    if todo:
        execution = _execution(
            paths, todo, choose_devices(devices, slots, slots_by, []), data, images or []
        )
        if not yes:
            _ask(study, todo, execution)
        _run(paths, study, execution)
    _conclude(source, study, there, paths, others, from_parents)


def _own_store(bundle: Path, option: Path | None, from_parents: bool) -> StorePaths:
    """Return the store to run in. Raises ControlError where it would be inside the bundle."""
    end = "-replication-from-parents" if from_parents else "-replication"
    paths = StorePaths.locate(option or Path(f"{bundle.resolve().name}{end}"))
    _refuse_inside(bundle, paths)
    return paths


def _refuse_inside(bundle: Path, paths: StorePaths) -> None:
    if paths.root.resolve().is_relative_to(bundle.resolve()):
        raise ControlError(
            f"{paths.root} is inside the bundle, which is never written to: give another folder"
        )


def _other_stores(source: Bundle, own: StorePaths, into: Path | None) -> list[StorePaths]:
    """Return the store that gets the verdicts, too: the one that is named, or the default one if it has the study."""
    paths = StorePaths.locate(into)
    if into is None:
        has_it = paths.root != own.root and paths.plan(source.study.digest).exists()
        return [paths] if has_it else []
    _refuse_inside(source.folder, paths)
    if not paths.plans.is_dir():
        raise ControlError(f"--into: {paths.root} is no store that holds plans")
    return [paths]


def _table(study: Study, there: Mapping[str, Outcome], found: Mapping[str, Replication]) -> Table:
    """Make the table: a row for each chosen stage."""
    names = stage_names(study)
    rows = []
    for key, outcome in there.items():
        score = study.score_of(study.stages[key].stage.task)
        each = found.get(key)
        scores = [outcome.score, None if each is None else each.here.score]
        shown = ["" if value is None else score.text(value) for value in scores]
        tolerance = None if each is None else each.tolerance
        rows.append(
            (
                key[:12],
                names[key],
                *shown,
                "" if each is None or tolerance is None else f"{tolerance:.3g} ({each.n})",
                "not run" if each is None else VERDICTS[each.verdict],
                "" if each is None else each.reason,
            )
        )
    headings = ("stage", "what", "there", "here", "tolerance (n)", "verdict", "why")
    return table(headings, rows, left=(0, 1, 5, 6))


def _say(
    source: Bundle, study: Study, chosen: Sequence[str], seed: int, paths: StorePaths, parents: bool
) -> None:
    """Write what is about to be done."""
    others = len(study.stages) - len(chosen)
    before = f"{plural(others, 'stage')} before them"
    start = f"starting from the bundle's {before}" if parents else f"with {before}"
    narrate(f"bundle sha256:{source.digest}, the plan {source.study.name}")
    narrate(
        f"{len(chosen)} of {plural(len(source.done), 'done stage')}, chosen by --seed {seed}, {start}, "
        f"in the store {paths.root}"
    )


def _execution(
    paths: StorePaths,
    todo: Mapping[str, Stage],
    devices: list[Device],
    data: Path | None,
    images: Sequence[Path],
) -> Execution:
    """Find what the stages are trained on. Raises DataError where it is not here, or is something else."""
    needed = {stage.data for stage in todo.values()}
    datasets = check_data(paths, needed, find_places(needed, data, images), data)
    return Execution(
        devices, data, share=False, fuse=False, checkpoint_every=60.0, datasets=datasets
    )


def _ask(study: Study, todo: Mapping[str, Stage], execution: Execution) -> None:
    """Ask before more than a day on the CPU. Exits where the user says no."""
    from prunectl.cli.support.cpu_estimate import ask_before_long_run

    paths = [trial.path for trial in study.trials]
    ask_before_long_run(todo, paths, execution.devices, execution.data)


def _run(paths: StorePaths, study: Study, execution: Execution) -> None:
    """Run the stages. Exits where the run was ended before they were done, but not where some failed."""
    from prunectl.cli.support.run_report import tell_end

    outcome = schedule(paths, [study], execution, record(paths, [study], execution))
    tell_end(
        paths,
        [study],
        stopped=outcome.interrupted,
        broken=outcome.broken,
        given_up=outcome.given_up,
        outdated=outcome.outdated,
    )


def _conclude(
    source: Bundle,
    study: Study,
    there: Mapping[str, Outcome],
    paths: StorePaths,
    others: Sequence[StorePaths],
    from_parents: bool,
) -> None:
    """Compare the chosen stages, record and print what is said of each, and exit with the code that says so."""
    from prunectl.results.verdicts import SeedScores, compare_stage
    from prunectl.store.records.replication import write_replications

    seeds = SeedScores(source)
    found = []
    for key in filter(partial(has_result, paths), there):
        beside = seeds.beside(key)
        try:
            found.append(
                compare_stage(source, there[key], beside, paths, key, from_parents=from_parents)
            )
        except CorruptFile as error:
            stage = paths.stage(key)
            for path in (stage.result, stage.final):  # so that it is never done without weights
                set_aside(path)
            narrate(f"{error}: it was set aside, and the same command runs its stage again")
    write_replications(paths, found)
    for other in others:
        write_replications(other, found)
        if found:
            narrate(f"recorded in {other.root}, too")
    for each in (paths, *others):
        bring_up_to_date(each)
    verdicts = {each.key: each for each in found}
    console().print(_table(study, there, verdicts))
    failed = len(there) - len(found)
    counts = Counter(each.verdict for each in found)
    typer.echo(verdict_counts(counts) + (f", {failed} not run" if failed else ""))
    if counts["different"] or counts["incomparable"]:
        raise typer.Exit(ExitCode.NOT_REPLICATED)
    if failed:
        raise typer.Exit(ExitCode.TRIAL_FAILED)
