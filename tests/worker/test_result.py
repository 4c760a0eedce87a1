"""What a result says of epochs: the same whether they were measured just now or read back from the log."""

from __future__ import annotations

import math

import pytest

from prunectl.spec.task import Metric
from prunectl.store.records.base import decode, encode
from prunectl.store.records.events import Epoch
from prunectl.store.records.result import Result
from prunectl.worker.failures import ReplayDiffers
from prunectl.worker.result import add_epochs, check_replay, is_diverged

ERROR = Metric("rmse", higher_is_better=False)


def read_back(epoch: Epoch) -> Epoch:
    return decode(encode(epoch), Epoch, "a test")


def test_the_best_score_is_the_same_for_epochs_that_were_read_back() -> None:
    scores = (math.nan, 3.0, math.inf, 2.0, -math.inf)
    epochs = [Epoch(epoch=number, score=score) for number, score in enumerate(scores, 1)]
    measured, read = Result(flag="diverged"), Result(flag="diverged")
    add_epochs(measured, epochs, ERROR)
    add_epochs(read, list(map(read_back, epochs)), ERROR)
    assert (measured.best_score, read.best_score) == (2.0, 2.0)
    assert decode(encode(measured), Result, "a test") == read


def test_a_replay_of_what_diverged_reproduces_it() -> None:
    diverged = Epoch(epoch=1, step=8, train_loss=math.nan, loss=math.inf, score=25.0)
    assert is_diverged(diverged)
    assert is_diverged(read_back(diverged))
    check_replay(diverged, [read_back(diverged)], 8)
    with pytest.raises(ReplayDiffers, match=r"train_loss 0\.5"):
        check_replay(Epoch(epoch=1, step=8, train_loss=0.5, score=25.0), [read_back(diverged)], 8)
