"""Stages as a graph: what each needs, which trials need it, what is done, and which replays are to be inserted.

A stage is done where its result is on the disk, and sound. A stage that starts from a dense stage's checkpoint needs
that file too: where a finished dense stage does not have it, a replay stage (`spec.replay`) is inserted to make it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate

from prunectl.errors import StoreError
from prunectl.scheduler.items import Workload
from prunectl.spec.key import Spec, spec_key
from prunectl.spec.stage import Stage, replay_of
from prunectl.spec.study import PlannedStage, Study
from prunectl.spec.task import CLASSIFICATION, Metric
from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records.stage import has_result, read_spec


@dataclass(frozen=True)
class Node:
    """A stage in the graph."""

    key: str
    spec: Spec
    steps: int
    """Optimizer steps it costs; for a replay those from the nearest earlier checkpoint on."""
    replays: frozenset[str] = frozenset()
    """Keys of the replays that were inserted before it."""
    score: Metric = CLASSIFICATION.score
    """What its task ranks networks by."""

    @property
    def stage(self) -> Stage:
        """What it is."""
        return self.spec.stage

    @property
    def needs(self) -> frozenset[str]:
        """Keys of the stages that must be done before it can start."""
        return self.stage.needs | self.replays

    @property
    def source(self) -> tuple[str, int] | None:
        """(stage, step) of the checkpoint inside another stage's training that it starts from, replays apart."""
        return None if self.stage.replay else self.stage.checkpoint

    @property
    def replay(self) -> tuple[str, int] | None:
        """(dense stage, step) of the checkpoint that it makes; None for an ordinary stage."""
        return self.stage.checkpoint if self.stage.replay else None

    @property
    def flags(self) -> tuple[str, bool]:
        """Return (precision, deterministic): torch's process-wide flags, equal for all stages of one worker."""
        return self.stage.train.precision, self.stage.train.deterministic

    @property
    def workload(self) -> Workload:
        """Return what stages that take the same time per step have in common."""
        return workload_of(self.stage)


def workload_of(stage: Stage) -> Workload:
    """Return what stages that take the same time per step have in common."""
    return stage.network.name, stage.data.name, stage.train.batch, stage.train.precision


class StageGraph:
    """The stages of some plans, merged by key. Writes nothing to the store; `reopen` sets results aside."""

    def __init__(self, paths: StorePaths) -> None:
        self.paths = paths
        self.nodes: dict[str, Node] = {}
        self.studies: dict[str, Study] = {}
        """By digest."""
        self.children: dict[str, set[str]] = defaultdict(set)
        self.wanted_by: dict[str, set[str]] = defaultdict(set)
        """Trials that need each stage."""
        self._done: set[str] = set()

    def add(self, study: Study) -> list[str]:
        """Merge a plan's stages in. Returns the keys that are new, needed ones before those that need them.

        Raises:
            StoreError: where a stage needs one that neither the plan nor the store holds, or stages need each other.
        """
        self.studies[study.digest] = study
        new = {
            key: _node(key, stage, study)
            for key, stage in study.stages.items()
            if key not in self.nodes
        }
        for node in new.values():
            self._insert(node)
        for trial in study.trials:
            for key in trial.path:
                if key not in self.nodes:
                    raise StoreError(
                        f"plan {study.name}: trial {trial.id} names stage {key}, which is not in it"
                    )
                self.wanted_by[key].add(trial.id)
        # Plans list parents first, but a record may be of any order, and the queue looks up what a stage needs.
        order = TopologicalSorter[str]()
        for key, node in new.items():
            needs = node.needs
            for needed in needs:
                if needed not in self.nodes and not self.is_done(needed):
                    raise StoreError(
                        f"plan {study.name}: stage {key} needs {needed}, which is unknown"
                    )
            order.add(key, *(needs & new.keys()))
        try:
            return list(order.static_order())
        except CycleError as error:
            raise StoreError(f"plan {study.name}: stages need each other: {error}") from error

    def _insert(self, node: Node) -> None:
        self.nodes[node.key] = node
        for needed in node.needs:
            self.children[needed].add(node.key)

    def is_done(self, key: str) -> bool:
        """Return whether the stage needs no more work: its result is there, and with it a replay's checkpoint."""
        if key in self._done:
            return True
        done = has_result(self.paths, key)
        node = self.nodes.get(key)
        if done and node is not None and node.replay is not None:
            done = files.disk.exists(self.paths.stage(key).rewind(node.replay[1]))
        if done:
            self._done.add(key)
        return done

    def reopen(self, key: str, now: float) -> bool:
        """Take back that a stage is done where its end, its mask or a replay's checkpoint is gone, or its result is
        damaged.

        Its result is set aside at Unix time `now`, not removed: the stage is computed again from its description.
        Returns whether something was.
        """
        stage, node = self.paths.stage(key), self.nodes.get(key)
        if node is None or not files.disk.exists(stage.result):
            return False
        needed = [stage.final] if node.replay is None else [stage.rewind(node.replay[1])]
        if node.stage.mask is not None:
            needed.append(stage.mask)
        if has_result(self.paths, key) and all(map(files.disk.exists, needed)):
            return False
        files.set_aside(stage.result, now)
        self._done.discard(key)
        return True

    def keep(self, key: str) -> list[int]:
        """Return the steps whose checkpoints the stage is asked to keep, ascending.

        A dense stage keeps its start, every change of its learning rate, every tenth of its training, and what stages
        in the graph start from; a replay keeps the one it is there for.
        """
        node = self.nodes[key]
        if node.replay is not None:
            return [node.replay[1]]
        asked = {
            source[1]
            for child in self.children[key]
            if (source := self.nodes[child].source) is not None and source[0] == key
        }
        return sorted(asked | set(default_keep(node.stage)) if node.stage.dense else asked)

    def insert_replays(self, key: str) -> list[str]:
        """Insert replays between a finished stage and those that start from a checkpoint it does not have.

        Returns the replays' keys; their children then need them. A stage that is not done needs none: it is asked to
        keep what its children start from.

        Raises:
            StoreError: where the checkpoint is of a stage that cannot be replayed.
        """
        if not self.is_done(key):
            return []
        inserted: dict[str, None] = {}
        kept: list[int] | None = None
        for child in sorted(self.children[key]):
            source = self.nodes[child].source
            if source is None or source[0] != key or self.is_done(child):
                continue
            if kept is None:  # listed once, and only where somebody asks
                kept = self.paths.stage(key).rewind_steps()
            if source[1] in kept:
                continue
            replay = self._replay(key, source[1], kept)
            inserted[replay] = None
            node = self.nodes[child]
            self.nodes[child] = replace(node, replays=node.replays | {replay})
            self.children[replay].add(child)
            self.wanted_by[replay] |= self.wanted_by[child]
        return list(inserted)

    def _replay(self, key: str, step: int, kept: list[int]) -> str:
        node = self.nodes.get(key)
        dense = node.spec if node else read_spec(self.paths.stage(key))
        try:
            spec = Spec(dense.numerics, replay_of(dense.computable, key, step))
        except ValueError as error:
            raise StoreError(f"stage {key} has no checkpoint of step {step}: {error}") from error
        made = spec_key(spec)
        if made not in self.nodes:
            nearest = max((have for have in kept if have <= step), default=0)
            self._insert(Node(made, spec, step - nearest))
        return made


def _node(key: str, stage: PlannedStage, study: Study) -> Node:
    return Node(key, stage.spec, stage.steps, score=study.score_of(stage.stage.task))


def default_keep(stage: Stage) -> list[int]:
    """Return the steps a dense stage keeps without being asked: start, learning-rate boundaries, tenths."""
    ends = list(accumulate(segment.steps for segment in stage.lr))
    total = ends[-1] if ends else 0
    steps = {0, *ends[:-1], *(total * tenth // 10 for tenth in range(10))}
    return sorted(step for step in steps if step < max(total, 1))


@dataclass(frozen=True)
class Preview:
    """What running some plans would cost, counted in stages and optimizer steps."""

    trials: int
    stages: int
    """Without replays."""
    done: int
    replays: tuple[tuple[str, str, int, int], ...]
    """(key, dense stage, step, steps it costs) of the replays still to run."""
    stages_without_sharing: int
    steps: int
    """Of all stages."""
    steps_without_sharing: int
    steps_to_run: int
    """Of the stages still to run, replays included."""


def preview(graph: StageGraph) -> Preview:
    """Count what is to run, with the replays for checkpoints that are missing today, which it inserts."""
    stages = list(graph.nodes.values())
    done = {node.key for node in stages if graph.is_done(node.key)}
    for node in stages:
        if node.key in done:
            graph.insert_replays(node.key)
    replays = [node for node in graph.nodes.values() if node.replay and not graph.is_done(node.key)]
    ordinary = [node for node in stages if not node.replay]
    to_run = [node for node in ordinary if node.key not in done]
    paths = {trial.id: trial.path for study in graph.studies.values() for trial in study.trials}
    return Preview(
        trials=len(paths),
        stages=len(ordinary),
        done=len(ordinary) - len(to_run),
        replays=tuple((node.key, *node.replay, node.steps) for node in replays if node.replay),
        stages_without_sharing=sum(len(path) for path in paths.values()),
        steps=sum(node.steps for node in ordinary),
        steps_without_sharing=sum(
            graph.nodes[key].steps for path in paths.values() for key in path
        ),
        steps_to_run=sum(node.steps for node in to_run + replays),
    )
