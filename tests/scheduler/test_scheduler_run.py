from conftest import Plan, Store, dense, retrain


def test_every_stage_once_in_order(store: Store) -> None:
    plan = Plan()
    for seed in range(2):
        start = dense(seed)
        for density in ("0.5", "0.2"):
            first = retrain(start, density)
            plan.trial(start, first, retrain(first, "0.1", 2))
    outcome = store.run(store.save(plan))
    assert outcome.ok
    assert outcome.trials["done"] == 4
    assert outcome.ran == len(plan.stages) == 10
    started = [line["key"] for line in store.trace("start")]
    assert sorted(started) == sorted(plan.stages)
    lines = [(line["what"], line["key"]) for line in store.trace()]
    for row in plan.trials:
        for parent, child in zip(row["path"], row["path"][1:], strict=False):
            assert lines.index(("done", parent)) < lines.index(("start", child))
