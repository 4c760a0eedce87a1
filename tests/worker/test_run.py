"""What a stage leaves behind: exact masks, zeros, rewound weights, learning rates, steps, results."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

from prunectl.ml.networks.build import skeleton
from prunectl.ml.pruning.layers import batchnorm_names
from prunectl.ml.training.state import TrainingState
from prunectl.spec import lr_schedule
from prunectl.spec.key import stage_key
from prunectl.spec.stage import replay_of
from prunectl.store.locks import Lock
from prunectl.worker.checkpoint import load_state
from prunectl.worker.failures import MissingInput, ReplayDiffers
from prunectl.worker.run import StageControl, run
from tests.support.records import rewrite

STRATEGIES = ("fine-tune", "weight-rewind", "lr-rewind")
Make = Callable[..., Any]


def same(one: TrainingState, other: TrainingState) -> bool:
    """Bit-equal weights, optimizer and position."""
    return (
        one.step == other.step
        and one.weights.keys() == other.weights.keys()
        and one.optimizer.keys() == other.optimizer.keys()
        and all(torch.equal(value, other.weights[n]) for n, value in one.weights.items())
        and all(torch.equal(value, other.optimizer[n]) for n, value in one.optimizer.items())
    )


def applied(lab: Any, key: str) -> list[float]:
    """The learning rate of every step, from the event log."""
    rates: list[float] = []
    changes = [tuple(run) for record in lab.events(key, "epoch") for run in record["rates"]]
    steps = lab.events(key, "epoch")[-1]["step"]
    for (first, rate), (after, _) in zip(changes, [*changes[1:], (steps, 0.0)], strict=True):
        assert len(rates) == first
        rates += [rate] * (after - first)
    return rates


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All three strategies of the tiny plan, run once."""
    from tests.worker.conftest import Laboratory

    return Laboratory(tmp_path_factory.mktemp("lab")).run_all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_kept_weights_are_exact_at_every_iteration(lab: Any, strategy: str) -> None:
    results = [lab.result(key) for key in lab.path(strategy)]
    dense = results[0]["kept"]
    assert results[0]["prunable"] == dense
    for iteration, result in enumerate(results):
        assert result["iteration"] == iteration
        assert result["kept"] == round(dense * Fraction(1, 2) ** iteration)
        if iteration:
            counted = sum(
                int(mask.sum()) for mask in lab.masks(lab.path(strategy)[iteration]).values()
            )
            assert counted == result["kept"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pruned_weights_and_their_momenta_are_zero_in_every_saved_state(
    lab: Any, strategy: str
) -> None:
    for key in lab.path(strategy)[1:]:
        state, masks = lab.final(key), lab.masks(key)
        for name, mask in masks.items():
            assert not state.weights[name][~mask].any()
            assert state.weights[name][mask].any()
            for slot, value in state.optimizer.items():
                if slot.endswith(name):
                    assert not value[~mask].any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masks_only_shrink(lab: Any, strategy: str) -> None:
    before: dict[str, torch.Tensor] = {}
    for key in lab.path(strategy)[1:]:
        masks = lab.masks(key)
        for name, mask in before.items():
            assert not (masks[name] & ~mask).any()
        before = masks


def test_the_learning_rates_are_those_of_the_strategies(lab: Any) -> None:
    """Read back from the log: dense and lr-rewind the whole schedule, weight-rewind its end, fine-tune its last."""
    whole = [0.05] * 21 + [0.005] * 14 + [0.0005] * 7
    assert applied(lab, lab.path("fine-tune")[0]) == whole
    for key in lab.path("lr-rewind")[1:]:
        assert applied(lab, key) == whole
    for key in lab.path("weight-rewind")[1:]:
        assert applied(lab, key) == whole[7:]
    for key in lab.path("fine-tune")[1:]:
        assert applied(lab, key) == [0.0005] * 42


def test_steps_and_search_cost_come_from_the_log(lab: Any) -> None:
    steps = {"fine-tune": 42, "weight-rewind": 35, "lr-rewind": 42}
    for strategy, expected in steps.items():
        for key in lab.path(strategy)[1:]:
            assert lab.events(key, "epoch")[-1]["step"] == expected
            assert lab.result(key)["retrain_epochs"] == expected / 7


def test_a_rewound_start_is_the_dense_checkpoint_bit_by_bit(
    laboratory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On surviving weights, biases and BatchNorm included; the pruned ones are zero."""
    from prunectl.ml.training.trainer import Trainer

    lab = laboratory()
    keys = lab.path("weight-rewind")
    for key in keys[:2]:
        lab.run(key)
    starts: list[TrainingState] = []
    train = Trainer.train

    def spy(self: Trainer, *args: Any, **named: Any) -> Any:
        if self.step == 0:
            starts.append(self.state())
        return train(self, *args, **named)

    monkeypatch.setattr(Trainer, "train", spy)
    lab.run(keys[2])
    dense = load_state(lab.paths.stage(keys[0]).rewind(7))
    masks = lab.masks(keys[2])
    names = batchnorm_names(skeleton(lab.spec(keys[0]).network))
    assert names
    for name, value in starts[0].weights.items():
        mask = masks.get(name)
        expected = dense.weights[name] if mask is None else dense.weights[name] * mask
        assert torch.equal(value, expected), name
    assert all(not value.any() for value in starts[0].optimizer.values())


@pytest.mark.parametrize("strategy", ["fine-tune", "lr-rewind"])
def test_the_others_start_from_the_parents_end(
    laboratory: Make, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    from prunectl.ml.training.trainer import Trainer

    lab = laboratory("recipe.optimizer_state=carried")
    keys = lab.path(strategy)
    for key in keys[:2]:
        lab.run(key)
    starts: list[TrainingState] = []
    train = Trainer.train

    def spy(self: Trainer, *args: Any, **named: Any) -> Any:
        if self.step == 0:
            starts.append(self.state())
        return train(self, *args, **named)

    monkeypatch.setattr(Trainer, "train", spy)
    lab.run(keys[2])
    parent, masks = lab.final(keys[1]), lab.masks(keys[2])
    for name, value in starts[0].weights.items():
        mask = masks.get(name)
        assert torch.equal(
            value, parent.weights[name] * mask if mask is not None else parent.weights[name]
        )
    # The carried momentum is the parent's, but for what is pruned now.
    for slot, value in starts[0].optimizer.items():
        mask = next((mask for name, mask in masks.items() if slot.endswith("/" + name)), None)
        assert torch.equal(
            value, parent.optimizer[slot] * mask if mask is not None else parent.optimizer[slot]
        )
    assert any(value.any() for value in starts[0].optimizer.values())


def test_accuracies_before_and_after_rewinding_are_recorded(lab: Any) -> None:
    for strategy in STRATEGIES:
        for key in lab.path(strategy)[1:]:
            pruned, begin = lab.events(key, "pruned")[0], lab.events(key, "begin")[0]
            result = lab.result(key)
            assert result["accuracy_pruned"] == pruned["accuracy_pruned"]
            assert result["accuracy_start"] == begin["accuracy_start"]
            if strategy != "weight-rewind":
                assert result["accuracy_start"] == result["accuracy_pruned"]


def test_the_reported_accuracy_is_the_last_epochs(lab: Any) -> None:
    for key in lab.path("lr-rewind"):
        epochs = lab.events(key, "epoch")
        assert [record["epoch"] for record in epochs] == [1, 2, 3, 4, 5, 6]
        assert lab.result(key)["accuracy"] == epochs[-1]["accuracy"]
        assert lab.result(key)["best_accuracy"] == max(record["accuracy"] for record in epochs)


def test_a_done_stage_is_not_run_again(lab: Any) -> None:
    key = lab.path("fine-tune")[0]
    before = lab.paths.stage(key).events.read_bytes()
    control = StageControl()
    assert list(run(key, lab.paths, lab.trainers, control)) == []
    assert control.outcome == "done"
    assert lab.paths.stage(key).events.read_bytes() == before


def test_a_stage_that_somebody_runs_is_left_alone(laboratory: Make) -> None:
    from prunectl.errors import StoreBusy

    lab = laboratory()
    key = lab.path("fine-tune")[0]
    lab.write(key)
    with Lock(lab.paths.stage(key).lock), pytest.raises(StoreBusy):
        list(run(key, lab.paths, lab.trainers, StageControl()))


@pytest.mark.parametrize("steps_before", [1, 4, 20])
def test_interrupted_and_resumed_is_bit_equal(laboratory: Make, steps_before: int) -> None:
    """Stopped at any step, mid-epoch too, and continued by a fresh worker: the same final state and metrics."""
    whole, cut = laboratory(), laboratory()
    for key in whole.path("weight-rewind")[:2]:
        whole.run(key)
        cut.interrupt(key, steps_before)
        assert not cut.paths.stage(key).result.exists()
        cut.run(key)
        assert same(whole.final(key), cut.final(key))
        for name in ("accuracy", "loss", "train_loss", "train_accuracy", "best_accuracy", "epochs"):
            assert whole.result(key)[name] == cut.result(key)[name], name
        assert not cut.paths.stage(key).latest.exists()
    assert cut.result(key)["attempt"] == 2


def test_a_torn_checkpoint_is_set_aside_and_recomputed(laboratory: Make) -> None:
    whole, torn = laboratory(), laboratory()
    key = whole.path("fine-tune")[0]
    whole.run(key)
    torn.write(key)
    control = StageControl(stop_by=0.0)
    for _ in run(key, torn.paths, torn.trainers, control):
        pass
    latest = torn.paths.stage(key).latest
    data = bytearray(latest.read_bytes())
    data[-5] ^= 0xFF
    latest.write_bytes(bytes(data))
    torn.run(key)
    assert same(whole.final(key), torn.final(key))
    assert list(latest.parent.glob("latest.safetensors.damaged-*"))
    assert any("checksum" in record["text"] for record in torn.events(key, "note"))


def test_a_parent_whose_end_is_corrupt_is_named(laboratory: Make) -> None:
    lab = laboratory()
    dense, first, *_ = lab.path("fine-tune")
    lab.run(dense)
    final = lab.paths.stage(dense).final
    final.write_bytes(final.read_bytes()[:-100])
    with pytest.raises(MissingInput) as caught:
        lab.run(first)
    assert caught.value.key == dense
    assert not final.exists()


def test_a_replay_makes_the_checkpoint_the_dense_run_would_have_kept(laboratory: Make) -> None:
    kept, lost = laboratory(), laboratory()
    dense = kept.path("weight-rewind")[0]
    kept.run(dense, keep=(0, 5, 7, 21))
    lost.run(dense, keep=(0, 5))
    spec = replay_of(lost.spec(dense), dense, 21)
    key = stage_key(spec)
    result = lost.run(key, spec)
    assert result["replay"]
    assert lost.events(key, "epoch")[0]["epoch"] == 1
    assert same(
        load_state(kept.paths.stage(dense).rewind(21)), load_state(lost.paths.stage(key).rewind(21))
    )


def test_a_rewound_stage_uses_the_replays_checkpoint(laboratory: Make) -> None:
    kept, lost = laboratory(), laboratory()
    dense, first, *_ = kept.path("weight-rewind")
    kept.run(dense)
    kept.run(first)
    lost.run(dense, keep=())
    with pytest.raises(MissingInput, match="no checkpoint of step 7"):
        lost.run(first)
    spec = replay_of(lost.spec(dense), dense, 7)
    lost.run(stage_key(spec), spec)
    lost.run(first)
    assert same(kept.final(first), lost.final(first))


def test_a_replay_that_comes_out_differently_says_so(laboratory: Make) -> None:
    lab = laboratory()
    dense = lab.path("weight-rewind")[0]
    lab.run(dense, keep=(0,))
    events = lab.paths.stage(dense).events
    recorded = lab.events(dense, "epoch")[0]["train_loss"]
    rewrite(events, lambda line: line.replace(str(recorded), str(recorded * 2)))
    spec = replay_of(lab.spec(dense), dense, 14)
    with pytest.raises(ReplayDiffers, match="was recorded"):
        lab.run(stage_key(spec), spec)


def test_divergence_is_a_result_and_nothing_is_pruned_from_it(laboratory: Make) -> None:
    from prunectl.ml.pruning.masks import NonFiniteWeights

    lab = laboratory("recipe.schedule.lr=1e30")
    dense, first, *_ = lab.path("fine-tune")
    result = lab.run(dense)
    assert result["flag"] == "diverged"
    assert result["steps"] < 42
    assert result["loss"] is None
    with pytest.raises(NonFiniteWeights):
        lab.run(first)
    assert lab.events(first, "failed")[-1]["reason"] == "nonfinite"


def test_a_network_that_only_guesses_is_collapsed(laboratory: Make) -> None:
    lab = laboratory("recipe.schedule.lr=1e-12")
    assert lab.run(lab.path("fine-tune")[0])["flag"] == "collapsed"


def test_stages_of_a_workload_share_a_trainer_and_it_never_shows(laboratory: Make) -> None:
    """The same stage alone in a fresh worker, and after others in a warm one."""
    warm, fresh = laboratory(), laboratory()
    for strategy in STRATEGIES:
        for key in warm.path(strategy)[:2]:
            warm.run(key)
    dense, first, *_ = fresh.path("lr-rewind")
    fresh.run(dense)
    fresh.run(first)
    assert same(warm.final(first), fresh.final(first))


def test_failures_are_in_the_log_with_their_traceback(
    laboratory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunectl.ml.training.trainer import Trainer

    lab = laboratory()
    key = lab.path("fine-tune")[0]

    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError("no more")

    monkeypatch.setattr(Trainer, "evaluate", broken)
    with pytest.raises(MemoryError):
        lab.run(key)
    failed = lab.events(key, "failed")[-1]
    assert failed["reason"] == "oom"
    assert "in broken" in failed["traceback"]


def test_rewinding_inside_the_last_phase_equals_fine_tuning(laboratory: Make) -> None:
    lab = laboratory('recipe.retrain.lr-rewind="1ep"', 'recipe.retrain.fine-tune="1ep"')
    assert lab.path("lr-rewind") == lab.path("fine-tune")
    assert lab.spec(lab.path("lr-rewind")[1]).lr == lr_schedule.constant(0.0005, 7)


def test_fine_tuning_is_a_prefix_of_longer_fine_tuning(laboratory: Make) -> None:
    """Randomness knows neither the strategy's name nor the stage's length."""
    short, long = laboratory('recipe.retrain.fine-tune="2ep"'), laboratory()
    for lab in (short, long):
        for key in lab.path("fine-tune")[:2]:
            lab.run(key)
    few = short.events(short.path("fine-tune")[1], "epoch")
    many = long.events(long.path("fine-tune")[1], "epoch")
    for one, other in zip(few, many, strict=False):
        assert one["train_loss"] == other["train_loss"]
        assert one["loss"] == other["loss"]
