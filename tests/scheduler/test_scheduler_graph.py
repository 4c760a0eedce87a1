"""The stage graph: what is kept, what is done, where replays go."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from prunectl.errors import StoreError
from prunectl.scheduler.graph import StageGraph, preview
from prunectl.spec.key import stage_key
from prunectl.spec.stage import Stage, replay_of
from prunectl.store.files import write_text
from prunectl.store.records.plan import current_studies, read_study
from prunectl.store.records.stage import has_result
from tests.support.records import write_json
from tests.support.scheduler_lab import Plan, Store, dense, retrain


def rewinding(start: Stage, step: int, density: str = "0.5") -> Stage:
    return retrain(start, density, rewind=(stage_key(start), step))


def graph_of(store: Store, plan: Plan) -> StageGraph:
    graph = StageGraph(store.paths)
    graph.add(read_study(store.paths, store.save(plan)))
    return graph


def finish(store: Store, spec: Stage, *rewinds: int) -> None:
    files = store.paths.stage(stage_key(spec))
    for step in rewinds:
        write_text(files.rewind(step), "state")
    write_json(files.result, {"key": files.key, "seconds": 1.0, "steps": spec.steps})


def test_parents_come_before_children(store: Store) -> None:
    plan = Plan()
    start = dense()
    first = retrain(start, "0.5")
    plan.trial(start, first, retrain(first, "0.2", 2))
    plan.stages = dict(reversed(plan.stages.items()))
    graph = StageGraph(store.paths)
    order = graph.add(read_study(store.paths, store.save(plan)))
    assert order == plan.trials[0]["path"]


def test_a_preview_looks_once_for_each_stage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan()
    start = dense(steps=100)
    finish(store, start, 33)
    for density in ("0.5", "0.2"):
        plan.trial(start, rewinding(start, 33, density))
    graph = graph_of(store, plan)
    looked: list[str] = []
    monkeypatch.setattr(
        "prunectl.scheduler.graph.has_result",
        lambda paths, key: looked.append(key) or has_result(paths, key),
    )
    counted = preview(graph)
    assert (counted.stages, counted.done, counted.replays) == (3, 1, ())
    # The stages that start from a finished one are asked for again: does it still have what they start from?
    assert Counter(looked) == {key: 1 if key == stage_key(start) else 2 for key in graph.nodes}


def test_dense_stages_keep_start_boundaries_tenths_and_what_is_asked(store: Store) -> None:
    plan = Plan()
    start = dense(steps=100)  # one boundary, at 50
    child = rewinding(start, 33)
    plan.trial(start, child)
    graph = graph_of(store, plan)
    assert graph.keep(stage_key(start)) == [0, 10, 20, 30, 33, 40, 50, 60, 70, 80, 90]
    assert graph.keep(stage_key(child)) == []


def test_a_missing_checkpoint_is_replayed_by_one_stage_for_all(store: Store) -> None:
    plan = Plan()
    start = dense(steps=100)
    children = [rewinding(start, 33, density) for density in ("0.5", "0.2")]
    for child in children:
        plan.trial(start, child)
    plan.trial(start, rewinding(start, 50))
    graph = graph_of(store, plan)
    assert graph.insert_replays(stage_key(start)) == [], "not done: it is asked to keep them"
    finish(store, start, 0, 10, 20, 30, 50)
    (replay,) = graph.insert_replays(stage_key(start))
    node = graph.nodes[replay]
    assert node.replay == (stage_key(start), 33)
    assert node.steps == 3, "from the nearest earlier checkpoint"
    assert node.needs == {stage_key(start)}
    assert graph.keep(replay) == [33]
    assert len(graph.wanted_by[replay]) == 2
    for child in children:
        assert replay in graph.nodes[stage_key(child)].needs
    spec = node.stage
    assert spec == replay_of(start, stage_key(start), 33)
    assert (spec.replay, spec.steps, stage_key(spec)) == (True, 33, replay)


def test_a_replay_is_done_with_its_result_and_its_checkpoint(store: Store) -> None:
    plan = Plan()
    start = dense(steps=100)
    plan.trial(start, rewinding(start, 33))
    graph = graph_of(store, plan)
    finish(store, start)
    (replay,) = graph.insert_replays(stage_key(start))
    files = store.paths.stage(replay)
    write_json(files.result, {"key": files.key})
    assert not graph.is_done(replay)
    write_text(files.rewind(33), "state")
    assert graph.is_done(replay)


def test_only_dense_stages_can_be_replayed(store: Store) -> None:
    start = dense()
    first = retrain(start, "0.5")
    with pytest.raises(ValueError, match="dense"):
        replay_of(first, stage_key(first), 2)
    plan = Plan()
    plan.trial(start, first, retrain(first, "0.2", 2, rewind=(stage_key(first), 2)))
    graph = graph_of(store, plan)
    finish(store, first)
    with pytest.raises(StoreError, match="no checkpoint of step 2"):
        graph.insert_replays(stage_key(first))


def test_preview_counts_sharing_and_replays(store: Store) -> None:
    plan = Plan()
    start = dense(steps=100)
    for step in (33, 50):
        plan.trial(start, rewinding(start, step))
    plan.trial(start, retrain(start, "0.5"))
    seen = preview(graph_of(store, plan))
    assert (seen.trials, seen.stages, seen.done) == (3, 4, 0)
    assert (seen.steps, seen.steps_without_sharing, seen.steps_to_run) == (115, 315, 115)
    assert seen.stages_without_sharing == 6
    assert seen.replays == ()
    finish(store, start, 0, 30, 50)
    seen = preview(graph_of(store, plan))
    assert (seen.done, seen.steps_to_run) == (1, 15 + 3)
    assert [replay[1:] for replay in seen.replays] == [(stage_key(start), 33, 3)]


def test_unknown_parents_are_refused(store: Store) -> None:
    plan = Plan()
    start = dense()
    plan.trial(start, retrain(start, "0.5"))
    del plan.stages[stage_key(start)]
    with pytest.raises(StoreError, match="not in it"):
        graph_of(store, plan)
    for name in ("path", "sparsities"):
        plan.trials[0][name] = plan.trials[0][name][1:]
    plan.digest = "second"
    with pytest.raises(StoreError, match="unknown"):
        graph_of(store, plan)
    finish(store, start)
    plan.digest = "third"
    assert graph_of(store, plan).nodes


def test_the_newest_version_of_a_plan_is_current(store: Store) -> None:
    for number, created in (("1", 5.0), ("2", 9.0), ("3", 7.0)):
        plan = Plan("a", f"a-{number}")
        plan.created = created
        plan.trial(dense())
        store.save(plan)
    store.save(Plan("b"))
    (store.paths.plans / "torn.json").write_text('{"digest":')
    (store.paths.plans / "other.json").write_text(json.dumps([1]))
    (store.paths.plans / "folder.json").mkdir()
    assert [study.digest for study in current_studies(store.paths)] == ["a-2", "b-1"]
    with pytest.raises(StoreError, match="no plan"):
        read_study(store.paths, "nothing")
