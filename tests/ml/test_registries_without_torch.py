"""A plan can be read and checked without torch."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from prunectl.ml.networks import registry as networks
from prunectl.ml.criteria import registry as criteria
from prunectl.ml.tasks import registry as tasks
from prunectl.ml import resolve
from prunectl.spec import density
import prunectl.ml.networks
networks.find("wrn-28-10"), networks.names()
criteria.find("random")
tasks.find("classification")
assert density.kept(10, "0.25") == 2
heavy = {"torch", "numpy", "torchvision"} & set(sys.modules)
assert not heavy, heavy
"""


def test_registries_and_densities_load_no_torch():
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=60)
