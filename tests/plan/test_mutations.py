"""Whatever stands in a plan: it is refused with its place, or all of its way carries it, and neither takes long."""

from __future__ import annotations

import functools
import random
import resource
import time
from pathlib import Path

import pytest

from prunectl.errors import ExitCode, PrunectlError
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.spec.key import stage_key
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import read_study, write_study
from tests.full import full
from tests.support.checking import check
from tests.support.command import prunectl
from tests.support.plan_mutations import mutated, override
from tests.support.tiny_plans import TINY

SHIPPED = sorted((Path(__file__).parents[2] / "plans").glob("*.toml"))
PLANS = 2000 if full() else 200
COMMANDS = 30 if full() else 3
SECONDS = 10
"""Of CPU, which does not depend on what else the machine does."""
LARGE = 5000
"""Stages of a plan from which on it is not written as a record here: that is a matter of size alone."""


@functools.cache
def texts() -> list[str]:
    return [TINY, *(file.read_text(encoding="utf-8") for file in SHIPPED if full())]


def plan(number: int) -> tuple[str, list[str]]:
    """The text of a mutated plan, and its overrides: always the same of one number."""
    draw = random.Random(number)
    text = TINY if draw.random() < 0.5 else draw.choice(texts())
    if draw.random() < 0.2:
        return text, [override(draw)]
    return mutated(draw, text), []


def laid_out(number: int) -> Expansion | PrunectlError:
    text, overrides = plan(number)
    try:
        return expand(loads(text, "plan.toml", overrides), check)
    except PrunectlError as error:
        return error


@pytest.fixture(scope="module")
def outcomes() -> list[Expansion | PrunectlError]:
    """How each plan ends, but for those that take too long."""
    found: list[Expansion | PrunectlError] = []
    seconds = []
    for number in range(PLANS):
        started = time.process_time()
        found.append(laid_out(number))
        seconds.append((time.process_time() - started, number))
    slowest, number = max(seconds)
    accepted = sum(isinstance(each, Expansion) for each in found)
    print(f"\n{accepted} of {PLANS} plans accepted; the slowest is {number}: {slowest:.1f} s")
    assert not full() or slowest < SECONDS, plan(number)
    return found


def test_a_mutated_plan_is_laid_out_or_refused(outcomes: list[Expansion | PrunectlError]) -> None:
    accepted = [each for each in outcomes if isinstance(each, Expansion)]
    assert len(accepted) > PLANS // 20, "mutations that are all refused try nothing of what follows"
    for error in outcomes:
        if isinstance(error, PrunectlError):
            assert error.exit_code is ExitCode.USAGE, error
            assert len(str(error)) < 3000, "one mistake, and not all of the file"
    for expansion in accepted:
        key, stage = next(iter(expansion.stages.items()))
        assert stage_key(stage) == key


def test_what_is_accepted_fits_its_record_and_the_tables(
    outcomes: list[Expansion | PrunectlError], tmp_path: Path
) -> None:
    paths = StorePaths(tmp_path / "store")
    written = {}
    for each in outcomes:
        if isinstance(each, Expansion) and len(each.stages) < LARGE:
            study = each.study()
            write_study(paths, study)
            assert read_study(paths, study.digest) == study
            written[study.digest] = study
    assert ingest(paths).notes == []
    rows = query.run(paths, "SELECT digest, count(*) FROM plan_trials GROUP BY digest").rows
    assert dict(rows) == {digest: len(study.trials) for digest, study in written.items()}
    keys = {key for study in written.values() for key in study.stages}
    assert query.run(paths, "SELECT count(*) FROM stages").rows == [(len(keys),)]


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_by_command_a_refused_plan_leaves_nothing(
    outcomes: list[Expansion | PrunectlError], tmp_path: Path
) -> None:
    for number in range(COMMANDS):
        text, overrides = plan(number)
        file, store = tmp_path / "plan.toml", tmp_path / "store"
        file.write_text(text, encoding="utf-8")
        options = [word for each in overrides for word in ("--set", each)]
        refused = isinstance(outcomes[number], PrunectlError)
        # What is accepted would be trained: for hours, where the mistake is a length.
        for command in ("show", "run") if refused else ("show",):
            started = cpu_of_children()
            done = prunectl(command, file, *options, "--store", store)
            took = cpu_of_children() - started
            assert done.returncode == (ExitCode.USAGE if refused else ExitCode.OK), done.stderr
            assert "Traceback" not in done.stderr
            assert not store.exists()
            assert not full() or took < SECONDS, plan(number)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seeds = [0, 1]", "seeds = [9223372036854775808]", "seeds[0]: at most 9223372036854775807"),
        ("seeds = [0, 1]", f"seeds = [{'9' * 5000}]", "a whole number is too large"),
        ("seeds = [0, 1]", f"seeds = [0x{'f' * 9000}]", "seeds[0]: at most 9223372036854775807"),
        ('"4ep"', '"99999999999999999999ep"', "recipe.length: at most 1,000,000,000 epochs and"),
        ('"4ep"', f'"{"9" * 5000}it"', "recipe.length: at most 1,000,000,000 epochs and"),
        ('"4ep"', '"4ep"\nbatches = "straddle"\nevaluate = "999999999999999it"', "recipe.evaluate: at most"),
        ('"4ep"', '"1000000000000it"\nevaluate = "1it"', "recipe.evaluate: at most 2,147,483,647 evaluations"),
        ('"4ep"', '"４ep"', "recipe.length: a length is epochs or steps"),
        ("batch = 64", "batch = 1000001", "recipe.batch: at most 1000000"),
        ("lr = 0.05", "lr = 1e39", "recipe.schedule.lr: at most 1e+38"),
        ("lr = 0.05", "lr = 1e-40", "recipe.schedule.lr: at least 1e-37"),
        ("rate = 0.5", "rate = 1e-12", "pruning.schedule.rate: at least 1e-09"),
        ("[pruning]", "[recipe.optimizer]\nbeta1 = 1.0\n[pruning]", "recipe.optimizer.beta1: should be less than 1"),
        ("[pruning]", "[recipe.optimizer]\nmomentum = 0.0\nnesterov = true\n[pruning]", "a momentum above 0"),
        ("[pruning]", "[recipe.augment]\npad = 8\n[pruning]", "recipe.augment.pad: less than the image's 8 pixels"),
        ("[pruning]", "[run]\nslots_per_device = 1001\n[pruning]", "run.slots_per_device: at most 1000"),
        ("height = 8", "height = 1000000000", "option height is 1000000000, not 1 to 16384"),
        ("train = 256", "train = 100000000\nseed = 4294967296", "option seed is 4294967296, not 0 to 4294967295"),
        ("height = 8\nwidth = 8", "height = 16384\nwidth = 16384\nclasses = 9999", "at most 1.1 TB are made"),
        ("lenet-300-100", "resnet-9998", "resnet-(6n + 2) from 8 to 1202"),
        ("lenet-300-100", "wrn-16-65", "k to 64"),
        ('name = "tiny"', 'name = "tiny"\nx = "a\\u0000"', "x: holds a NUL character"),
        ('name = "tiny"', f"name = {'[' * 300}{']' * 300}", "nested too deeply"),
        ('name = "tiny"', f"name = {'[' * 2000}{']' * 2000}", "nested too deeply"),
        ('name = "tiny"', "\n".join(f"x{n} = 1" for n in range(50_001)), "has too many keys for a plan"),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_named_with_the_range(old: str, new: str, says: str) -> None:
    assert old in TINY
    text = TINY.replace(old, new, 1)
    if "classes = 9999" in new:
        text = text.replace("classes = 4\n", "")
    with pytest.raises(PrunectlError) as caught:
        expand(loads(text, "plan.toml"), None)
    assert says in str(caught.value)
    assert str(caught.value).startswith("plan.toml")


def test_an_override_that_is_not_text_is_refused() -> None:
    with pytest.raises(PrunectlError, match="name: not UTF-8"):
        loads(TINY, overrides=["name=a\udcff"])


def test_the_limits_themselves_are_accepted_and_carried(tmp_path: Path) -> None:
    """A seed of 2⁶³ − 1 and a training of 10¹² steps, through key, record and table."""
    text = TINY.replace("seeds = [0, 1]", "seeds = [9223372036854775807]")
    text = text.replace('"4ep"', '"1000000000000it"\nevaluate = "end"')
    study = expand(loads(text), check).study()
    paths = StorePaths(tmp_path)
    write_study(paths, study)
    assert read_study(paths, study.digest) == study
    assert ingest(paths).notes == []
    found = query.run(paths, "SELECT DISTINCT seed, max(steps) FROM stages GROUP BY seed").rows
    assert found == [(2**63 - 1, 10**12)]
