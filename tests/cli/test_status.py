"""The failed lines of `status`: what failed, for whom, and the id to try it again with."""

from __future__ import annotations

from collections.abc import Callable

from prunectl.spec.key import stage_key
from tests.cli.conftest import Done
from tests.support.scheduler_lab import Plan, Store, dense, retrain

Here = Callable[..., Done]
NONFINITE = "nonfinite: weights are not finite"


def failed_lines(here: Here, store: Store) -> list[str]:
    done = here("status", "--store", store.paths.root)
    assert done.returncode == 0
    return [line for line in done.stdout.splitlines() if line.startswith("failed ")]


def test_a_failed_line_names_a_trial_that_retry_takes(here: Here, store: Store) -> None:
    plan = Plan()
    shared = [
        plan.trial(dense(0), retrain(dense(0), density), strategy=strategy)
        for density, strategy in (("0.5", "fine-tune"), ("0.2", "lr-rewind"))
    ]
    late = retrain(dense(1), "0.5")
    alone = plan.trial(dense(1), late, strategy="lr-rewind")
    store.fake(modes=dict.fromkeys((stage_key(dense(0)), stage_key(late)), "nonfinite"))
    store.run(store.save(plan))
    lines = failed_lines(here, store)
    assert sorted(lines) == [
        f"failed {shared[0][:8]} fine-tune · seed 0, dense network: {NONFINITE} (2 trials need it)",
        f"failed {alone[:8]} lr-rewind · seed 1, sparsity 0.2: {NONFINITE}",
    ]
    assert "prunectl retry ID" in here("status", "--store", store.paths.root).stdout
    for left, line in enumerate(reversed(lines)):
        (_, name, *_) = line.split()
        retried = here("retry", name, "--store", store.paths.root)
        assert (retried.returncode, retried.stderr) == (0, "")
        assert failed_lines(here, store) == lines[: 1 - left]
    assert "retry ID" not in here("status", "--store", store.paths.root).stdout
    store.fake()
    store.run(plan.digest)
    assert " 3 done " in here("status", "--store", store.paths.root).stdout


def test_what_no_current_plan_has_is_not_listed(here: Here, store: Store) -> None:
    before, now, other = Plan(), Plan(digest="study-2", created=2000.0), Plan("other")
    before.trial(dense(0))
    now.trial(dense(1))
    trial = other.trial(dense(2), strategy="dense", dataset="toy")
    store.fake(modes={stage_key(dense(seed)): "nonfinite" for seed in (0, 2)})
    store.run(store.save(before))
    store.run(store.save(other))
    store.run(store.save(now))
    (line,) = failed_lines(here, store)
    assert line == (
        f"failed {trial[:8]} other fake-net toy dense · seed 2, dense network: {NONFINITE}"
    )


def test_an_id_is_as_long_as_it_must_be(here: Here, store: Store) -> None:
    plan = Plan()
    for seed, name in enumerate(("0123456789abcdef", "0123456789ffffff")):
        plan.trial(dense(seed))
        plan.trials[seed]["trial"] = name
    store.fake(modes={stage_key(dense(0)): "nonfinite"})
    store.run(store.save(plan))
    (line,) = failed_lines(here, store)
    assert line.startswith("failed 0123456789a fine-tune")
    assert here("retry", line.split()[1], "--store", store.paths.root).returncode == 0
