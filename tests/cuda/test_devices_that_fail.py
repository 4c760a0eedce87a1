"""`prunectl run` on devices that fail: what is lost, what is tried again, and what is said."""

from __future__ import annotations

import pytest

from tests.cuda.lab import ONE_SEED, Lab

pytestmark = [pytest.mark.gpu, pytest.mark.fake]


def test_a_card_that_is_dead_leaves_its_stages_to_the_other(lab: Lab) -> None:
    lab.run(*ONE_SEED, "--slots", "2", devices=2, fail_at=600, fail_device=0)
    (drained,) = lab.log("drained")
    assert drained["device"] == "cuda:0"
    assert "after 3 workers in a row were lost" in drained["reason"]
    assert not lab.log("stage_failed"), "no stage is to blame"
    assert {record["device"] for record in lab.log("worker_started")} == {"cuda:0", "cuda:1"}


def test_a_card_that_fails_once_is_used_again(lab: Lab) -> None:
    lab.run(*ONE_SEED, "--slots", "2", fail_at=900, fail_error=214, fail_once=lab.folder / "once")
    assert not lab.log("drained")
    assert not lab.log("stage_failed")
    assert len(lab.log("worker_started")) == 2


def test_a_run_whose_only_card_is_dead_ends_and_says_so(lab: Lab) -> None:
    done = lab.run(*ONE_SEED, code=1, fail_at=600, fail_error=214)
    assert len(lab.log("worker_started")) == 3
    assert "cuda:0 was given up after 3 workers in a row were lost" in done.stderr
    assert "ECC" in done.stderr
    assert "nothing is lost" in done.stderr
