"""Each seed moves what it is of and nothing else: weights, the order of images, their changes."""

from __future__ import annotations

from pathlib import Path

import torch

from prunectl.spec.seeds import Seeds
from prunectl.worker.checkpoint import load_state
from tests.worker.conftest import Laboratory
from tests.worker.test_run import same


def test_only_its_own_purpose_moves(tmp_path: Path) -> None:
    """Dense networks of one seed of initialisation begin as the same bits; whatever else differs ends differently."""
    crossed = "seeds={ init = [0, 1], order = [0, 1], augment = [0, 1] }"
    lab = Laboratory(tmp_path, crossed, 'grid.strategy=["fine-tune"]', "pruning.criterion='random'")
    paths = {trial.seeds: trial.path for trial in lab.plan.trials}
    assert len(paths) == 8
    chosen = [Seeds.of(0), Seeds(0, 1, 0), Seeds(0, 0, 1), Seeds.of(1)]
    for key in dict.fromkeys(key for seeds in chosen for key in paths[seeds][:2]):
        lab.run(key)
    first, *others = [load_state(lab.paths.stage(paths[seeds][0]).rewind(0), 0) for seeds in chosen]
    assert [same(first, other) for other in others] == [True, True, False]
    ends = [lab.final(paths[seeds][0]).weights for seeds in chosen]
    name = next(iter(ends[0]))
    assert len({ends[k][name].numpy().tobytes() for k in range(4)}) == 4
    # A criterion that scores at random draws from the seed of the initialisation.
    masks = [lab.masks(paths[seeds][1]) for seeds in chosen]
    alike = [
        all(torch.equal(own, each[layer]) for layer, own in masks[0].items()) for each in masks[1:]
    ]
    assert alike == [True, True, False]


def test_an_interrupted_stage_goes_on_with_all_its_seeds(tmp_path: Path) -> None:
    override = "seeds=[{ init = 3, order = 4, augment = 5 }]"
    whole, broken = (Laboratory(tmp_path / name, override) for name in ("whole", "broken"))
    key = whole.path("fine-tune", 3)[0]
    assert whole.spec(key).seeds == (3, 4, 5)
    whole.run(key)
    broken.interrupt(key, turns=9)
    broken.run(key)
    assert same(whole.final(key), broken.final(key))
    assert whole.result(key)["digests"] == broken.result(key)["digests"]
