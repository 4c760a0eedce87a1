"""References: every entry of every registry names something that can be imported and used."""

from __future__ import annotations

import pytest

from prunectl.errors import UnknownName
from prunectl.ml.criteria import registry as criteria
from prunectl.ml.datasets import registry as datasets
from prunectl.ml.networks import registry as networks
from prunectl.ml.resolve import lookup, resolve
from prunectl.ml.tasks import registry as tasks
from prunectl.spec.settings import TrainSettings


@pytest.mark.parametrize("name", networks.names())
def test_networks(name):
    reference, _ = networks.find(name)
    assert callable(resolve(reference))
    assert reference in {family.reference for family in networks.FAMILIES}


@pytest.mark.parametrize("name", criteria.REFERENCES)
def test_criteria(name):
    assert callable(resolve(criteria.find(name)))


@pytest.mark.parametrize("name", tasks.names())
def test_tasks(name):
    task = resolve(tasks.find(name).reference)(TrainSettings(), 10)
    assert "loss" in task.measured
    assert callable(task.metrics)


@pytest.mark.parametrize("name", datasets.names())
def test_datasets(name):
    assert callable(datasets.find(name).implementation().read)


def test_what_cannot_be_resolved():
    with pytest.raises(ModuleNotFoundError):
        resolve("prunectl.ml.criteria.nothing:score")
    with pytest.raises(AttributeError):
        resolve("prunectl.ml.criteria.magnitude:nothing")
    for find in (networks.find, criteria.find, tasks.find, datasets.find):
        with pytest.raises(UnknownName):
            find("nothing")


def test_lookup():
    assert lookup("thing", "b", {"a": 1, "b": 2}) == 2
    with pytest.raises(UnknownName, match="thing"):
        lookup("thing", "c", {"a": 1, "b": 2})
