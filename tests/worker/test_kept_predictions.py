"""The predictions that a stage leaves: its network's at the end, the same whatever happened on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from prunectl.errors import DataError
from prunectl.ml.datasets.images import Images, load
from prunectl.ml.networks.build import build
from prunectl.spec.key import stage_key
from prunectl.spec.stage import replay_of
from prunectl.store.files import set_asides
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.events import read_events
from prunectl.store.records.labels import Labels, labels_record, read_labels
from prunectl.store.records.result import Result
from prunectl.store.tensors import read_checked
from prunectl.store.verify import verify
from prunectl.worker import predictions
from tests.worker.conftest import TINY, Laboratory

Make = Callable[..., Laboratory]
STRATEGIES = ("fine-tune", "weight-rewind", "lr-rewind", "reinit")
SAID = ("ece", "agreement", "agreement_with", "test_set")


def kept(lab: Laboratory, key: str) -> NDArray[np.uint16]:
    """The classes in a stage's file."""
    checked = read_checked(lab.paths.stage(key).predictions)
    assert list(checked.arrays) == ["predictions"]
    assert checked.arrays["predictions"].dtype == np.uint16
    return checked.arrays["predictions"]


def test_images(lab: Laboratory, key: str) -> Images:
    images = load(lab.spec(key).data, lab.paths.root)
    assert isinstance(images, Images)
    return images


test_images.__test__ = False  # type: ignore[attr-defined]


def probabilities(lab: Laboratory, key: str) -> NDArray[np.float64]:
    """What the network in a stage's final checkpoint gives for all test items at once, [items, classes]."""
    spec = lab.spec(key)
    network = build(spec.network).eval().double()
    network.load_state_dict({n: t.double() for n, t in lab.final(key).weights.items()})
    how = spec.train.normalize
    mean, std = (
        torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (how.mean, how.std)
    )
    with torch.no_grad():
        outputs = network((test_images(lab, key).test_images.double() / 255 - mean) / std)
    found: NDArray[np.float64] = outputs.softmax(1).numpy()
    return found


def calibration(values: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """Guo et al.'s error with 15 bins, by masks."""
    confidence, right = values.max(1), values.argmax(1) == labels
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return 100 * total


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """Four strategies of the tiny plan with two iterations, run once."""
    text = TINY.replace('"lr-rewind"]', '"lr-rewind", "reinit"]').replace(
        "iterations = 3", "iterations = 2"
    )
    return Laboratory(tmp_path_factory.mktemp("lab"), text=text).run_all()


def test_they_are_the_final_networks(lab: Laboratory) -> None:
    for strategy in STRATEGIES:
        for key in lab.path(strategy):
            values = probabilities(lab, key)
            labels = test_images(lab, key).test_targets.numpy()
            assert (kept(lab, key) == values.argmax(1)).all()
            result = lab.result(key)
            assert result["accuracy"] == pytest.approx(100 * (values.argmax(1) == labels).mean())
            assert result["ece"] == pytest.approx(calibration(values, labels), abs=1e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_agreement_is_with_the_trials_own_dense_network(lab: Laboratory, strategy: str) -> None:
    """Whatever the weights come from, and at every iteration."""
    dense, *pruned = lab.path(strategy)
    assert lab.result(dense)["agreement"] == 100
    assert len(pruned) == 2
    for key in pruned:
        result = lab.result(key)
        assert result["agreement"] == 100 * (kept(lab, key) == kept(lab, dense)).mean()
        assert result["agreement_with"] == lab.result(dense)["digests"]["predictions.safetensors"]
    assert {lab.result(key)["agreement"] for key in pruned} != {100.0}


def test_a_result_names_them_as_its_other_files(lab: Laboratory) -> None:
    for key in lab.path("fine-tune"):
        result, file = lab.result(key), lab.paths.stage(key).predictions
        assert result["files"][file.name] == file.stat().st_size
        assert result["digests"][file.name] == read_checked(file).checksum


def test_the_labels_are_in_the_store_once(lab: Laboratory) -> None:
    [path] = lab.paths.labels.iterdir()
    dense = lab.path("fine-tune")[0]
    record = read_labels(path)
    assert list(record.labels) == test_images(lab, dense).test_targets.tolist()
    assert {lab.result(key)["test_set"] for key in lab.plan.stages} == {record.test_set}


def test_validation_taken_from_the_test_set_leaves_other_items(laboratory: Make) -> None:
    made = laboratory()
    for source in ("none", "test", "train"):
        validation = (
            () if source == "none" else (f'recipe.validation={{ from = "{source}", count = 20 }}',)
        )
        other = Laboratory(made.paths.root, *validation)
        key = other.path("fine-tune")[0]
        items = other.spec(key).data
        record = labels_record(items, test_images(other, key).test_targets.tolist())
        assert other.run(key)["test_set"] == record.test_set
        assert len(kept(other, key)) == len(record.labels) == (30 if source == "test" else 50)
    assert len(list(made.paths.labels.iterdir())) == 2
    assert verify(made.paths).problems == []


@pytest.mark.parametrize("steps_before", [1, 20])
def test_interrupted_and_resumed_they_are_the_same(
    lab: Laboratory, laboratory: Make, steps_before: int
) -> None:
    cut = laboratory(text=TINY)
    for key in lab.path("weight-rewind")[:2]:
        cut.interrupt(key, steps_before)
        assert not cut.paths.stage(key).predictions.exists()
        again, whole = cut.run(key), lab.result(key)
        assert again["digests"] == whole["digests"]
        assert {name: again[name] for name in SAID} == {name: whole[name] for name in SAID}


@pytest.mark.parametrize("killed_at", ["predictions", "result"])
def test_killed_at_the_end_they_are_the_same(
    lab: Laboratory, laboratory: Make, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """Before they are written, and between them and the result."""
    made, key = laboratory(text=TINY), lab.path("weight-rewind")[0]
    places = {
        "predictions": "prunectl.worker.predictions.save_predictions",
        "result": "prunectl.worker.run.write_record",
    }

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(places[killed_at], die)
        with pytest.raises(Killed):
            made.run(key)
    again, whole = made.run(key), lab.result(key)
    assert again["digests"] == whole["digests"]
    assert {name: again[name] for name in SAID} == {name: whole[name] for name in SAID}
    assert verify(made.paths).problems == []


def test_a_damaged_result_is_made_again_only_beside_sound_predictions(
    lab: Laboratory, laboratory: Make
) -> None:
    made, key = laboratory(text=TINY), lab.path("weight-rewind")[0]
    made.run(key)
    stage = made.paths.stage(key)
    stage.result.write_text("{")
    made.run(key)
    assert len(read_events(stage.events).records) == len(
        read_events(lab.paths.stage(key).events).records
    )
    stage.result.write_text("{")
    stage.predictions.write_bytes(stage.predictions.read_bytes()[:-2])
    assert made.run(key)["digests"] == lab.result(key)["digests"]
    assert verify(made.paths).problems == []


def test_without_the_dense_networks_agreement_is_not_known(laboratory: Make) -> None:
    """As it is of a result of an older version, which is no damage; one that is damaged is told of."""
    made = laboratory()
    dense, first, second, _ = made.path("fine-tune")
    made.run(dense)
    predictions, stage = made.paths.stage(dense).predictions, made.paths.stage(dense)
    whole = predictions.read_bytes()
    predictions.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert made.run(first)["agreement"] is None
    assert "agreement" in made.events(first, "note")[0]["text"]
    assert made.result(first)["ece"] is not None
    predictions.unlink()
    result = read_record(stage.result, Result)
    for name in ("test_set", "agreement_with"):
        setattr(result, name, "")
    result.agreement = result.ece = None
    result.digests = {n: d for n, d in result.digests.items() if n != predictions.name}
    result.lines_before = None
    write_record(stage.result, result)
    made.run(second)
    found = made.result(second)
    assert (found["agreement"], found["agreement_with"], found["test_set"] != "") == (
        None,
        "",
        True,
    )
    assert made.events(second, "note") == []
    assert not [text for text in verify(made.paths).problems if "redictions" in text]


def test_a_network_that_diverged_has_predictions_and_no_calibration(laboratory: Make) -> None:
    made = laboratory("recipe.schedule.lr=1e30")
    key = made.path("fine-tune")[0]
    result = made.run(key)
    assert result["flag"] == "diverged"
    labels = test_images(made, key).test_targets.numpy()
    assert result["accuracy"] == 100 * (kept(made, key) == labels).mean()
    assert (result["ece"], result["agreement"]) == (None, 100)
    assert verify(made.paths).problems == []


def test_a_replay_has_none(laboratory: Make) -> None:
    made = laboratory()
    dense = made.path("weight-rewind")[0]
    made.run(dense, keep=(0,))
    spec = replay_of(made.spec(dense), dense, 14)
    key = stage_key(spec)
    result = made.run(key, spec)
    assert [result[name] for name in SAID] == [None, None, "", ""]
    assert not made.paths.stage(key).predictions.exists()
    assert verify(made.paths).problems == []


def test_of_more_classes_than_two_bytes_hold_there_are_none(
    laboratory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MOST_CLASSES", 3)  # of data with four
    made = laboratory()
    key = made.path("fine-tune")[0]
    result = made.run(key)
    assert not made.paths.stage(key).predictions.exists()
    assert (result["test_set"], result["agreement"]) == ("", None)
    assert result["ece"] is not None
    assert "no predictions are kept of 4 classes" in made.events(key, "note")[0]["text"]
    assert verify(made.paths).problems == []


def test_other_labels_than_the_stores_are_refused_before_anything_is_trained(
    laboratory: Make,
) -> None:
    made = laboratory()
    dense, first, *_ = made.path("fine-tune")
    made.run(dense)
    [path] = made.paths.labels.iterdir()
    record = read_labels(path)
    labels = ((record.labels[0] + 1) % 4, *record.labels[1:])
    write_record(path, Labels(data=record.data, labels=labels))
    with pytest.raises(DataError, match="50 items, not 50, 1 of other classes"):
        made.run(first)
    assert made.events(first, "epoch") == []
    assert made.events(first, "failed")[0]["reason"] == "data"


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_labels_that_are_damaged_are_written_again(laboratory: Make, damage: str) -> None:
    made = laboratory()
    dense, first, *_ = made.path("fine-tune")
    made.run(dense)
    [path] = made.paths.labels.iterdir()
    whole = read_labels(path)
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-9])
    made.run(first)
    assert read_labels(path).labels == whole.labels
    assert len(set_asides(made.paths.labels)) == (damage == "torn")
    assert verify(made.paths).problems == []
