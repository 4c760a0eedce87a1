"""No file can make the package run code: nothing in it unpickles, and pickles in the place of its files do nothing."""

from __future__ import annotations

import ast
import contextlib
import gzip
import io
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prunectl
from prunectl.errors import PrunectlError
from prunectl.ml.datasets import digits, idx, registry
from prunectl.ml.datasets.decode import decode
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.known_folders import load_options, save_options
from prunectl.ml.datasets.registry import complete, describe, ensure
from prunectl.store import archive
from prunectl.store.db import query, schema
from prunectl.store.db.ingest import ingest
from prunectl.store.import_study import Import
from prunectl.store.paths import StorePaths
from prunectl.store.records.scheduler_log import RunStarted
from prunectl.store.tensors import read_checked
from prunectl.store.verify import verify
from prunectl.worker.checkpoint import load_masks, load_state
from tests.support.bundles import make_writable, reseal
from tests.support.fake_store import FakeStore
from tests.support.image_maker import write_images

PACKAGE = Path(prunectl.__file__).parent

MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "copyreg", "dbm"),
    *("yaml", "runpy", "code"),
}  # fmt: skip
"""Their readers run what a file says, or can be made to."""
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = re.compile(
    r"torch\.([\w.]+\.)?(load\w*|PackageImporter)|.*\b(loadmat|mat_reader_factory|read_pickle|Client|Unpickler)"
)
"""Of torch, SciPy, pandas and multiprocessing."""


def unpickling(text: str) -> Iterator[str]:
    """Yield what a module's text imports or calls that could run what a file says."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (f"import {a.name}" for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in BUILTINS or CALLS.fullmatch(name):
                yield name
            if name in ("np.load", "numpy.load", "np.lib.format.read_array"):
                allowed = [k.value for k in node.keywords if k.arg == "allow_pickle"]
                if not allowed or ast.unparse(allowed[0]) != "False":
                    yield name


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import yaml.loader", "from joblib import load", "import marshal",
        "torch.load(f)", "torch.load(f, weights_only=True)", "torch.jit.load(f)", "np.load(f)",
        "np.load(f, allow_pickle=True)", "numpy.load(f, allow_pickle=x)", "eval(t)", "exec(t)", "__import__(m)",
        "scipy.io.loadmat(f)", "loadmat(f)", "pd.read_pickle(f)", "import shelve",
    ],
)  # fmt: skip
def test_what_unpickles_is_found(text: str) -> None:
    assert [*unpickling(text)]


@pytest.mark.parametrize(
    "text", ["np.load(f, allow_pickle=False)", "model.eval()", "json.loads(t)"]
)
def test_what_does_not_is_not(text: str) -> None:
    assert not [*unpickling(text)]


def test_no_module_unpickles() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), what)
        for path in PACKAGE.rglob("*.py")
        for what in unpickling(path.read_text())
    }
    assert not found


# --- pickles in the place of files -------------------------------------------------------------

_LOOKED_UP: list[tuple[Any, ...]] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _LOOKED_UP is not None and event == "pickle.find_class":
        _LOOKED_UP.append(arguments)


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_hear)  # cannot be taken away again, and costs nothing where nobody listens


@pytest.fixture
def looked_up() -> Iterator[list[tuple[Any, ...]]]:
    """What any unpickler, of Python, numpy or torch, looks up by a name in a file: what it would call."""
    global _LOOKED_UP
    _LOOKED_UP = found = []
    yield found
    _LOOKED_UP = None


class Payload:
    """When it is unpickled it makes a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.made,)


def raw(made: Path) -> bytes:
    return b"cos\nsystem\n(S'touch " + str(made).encode() + b"'\ntR."


def protocol_5(made: Path) -> bytes:
    return pickle.dumps(Payload(made), protocol=5)


def numpy_file(made: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Payload(made)], object), allow_pickle=True)
    return out.getvalue()


def numpy_archive(made: Path) -> bytes:
    out = io.BytesIO()
    np.savez(out, **dict.fromkeys(digits.NAMES, np.array([Payload(made)], object)))
    return out.getvalue()


def torch_file(made: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Payload(made), protocol=2))
        file.writestr("archive/version", "3\n")
    return out.getvalue()


PAYLOADS = [raw, protocol_5, numpy_file, numpy_archive, torch_file]


def test_the_payloads_would_run(tmp_path: Path, looked_up: list[tuple[Any, ...]]) -> None:
    import torch

    for make in PAYLOADS:
        made, file = tmp_path / f"{make.__name__}.made", tmp_path / make.__name__
        file.write_bytes(make(made))
        if make in (numpy_file, numpy_archive):
            loaded = np.load(file, allow_pickle=True)
            assert make is numpy_file or len([*loaded.values()]) == 4
        elif make is torch_file:
            torch.load(file, weights_only=False)
        else:
            pickle.loads(file.read_bytes())
        assert made.exists(), make
        assert looked_up, make
        looked_up.clear()


def refuse(read: Callable[[], object]) -> None:
    """Read; an error is one of the package's."""
    with contextlib.suppress(PrunectlError):
        read()


def try_published(name: str, root: Path, payload: bytes) -> None:
    """Read a data set all of whose files are the payload: as the command does, and without a look at their sums."""
    entry = registry.find(name)
    for file in entry.files:
        (root / file).write_bytes(payload)
    read_folder = entry.implementation().read_folder
    refuse(lambda: read_folder(name, root) if entry.module == "cifar" else read_folder(root))
    refuse(lambda: ensure(name, root))


def try_packed(root: Path, payload: bytes) -> None:
    """Read MNIST's files as the payload, gzipped."""
    for file in idx.FILES:
        (root / f"{file}.gz").write_bytes(gzip.compress(payload))
    refuse(lambda: idx.read_folder(root))
    refuse(lambda: ensure("mnist", root))


def try_pictures(name: str, root: Path, payload: bytes) -> None:
    """Read a folder all of whose pictures are the payload."""
    for picture in write_images(root, 2, 1, folders="train val").rglob("*.png"):
        picture.write_bytes(payload)
        refuse(lambda picture=picture: decode(picture, 3))
    options = complete(name, {"path": str(root)})
    refuse(lambda: describe(name, options))
    refuse(lambda: ensure(name, root, options, "x"))


def try_packaged(root: Path, payload: bytes) -> None:
    """Read the payload in place of the package's own digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "FILE", root / "digits.npz")
        digits.FILE.write_bytes(payload)
        with contextlib.suppress(Exception):  # a damaged package has no words of its own for that
            digits.read(Finder("digits", root), {})


@pytest.mark.parametrize("make", PAYLOADS)
@pytest.mark.parametrize("name", registry.names())
def test_pickles_in_place_of_any_data_do_nothing(
    tmp_path: Path, name: str, make: Callable[[Path], bytes], looked_up: list[tuple[Any, ...]]
) -> None:
    made = tmp_path / "made"
    payload, entry = make(made), registry.find(name)
    if entry.files:
        try_published(name, tmp_path, payload)
    elif "path" in entry.local:
        try_pictures(name, tmp_path, payload)
    elif name == "digits":
        try_packaged(tmp_path, payload)
    else:
        assert name == "synthetic"  # reads nothing
    if entry.module == "idx":
        (tmp_path / "packed").mkdir()
        try_packed(tmp_path / "packed", payload)
    save_options(tmp_path, "x", {})
    (tmp_path / "places/x.json").write_bytes(payload)
    refuse(lambda: load_options(tmp_path, "x"))
    assert not looked_up
    assert not made.exists()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> StorePaths:
    """A store with a plan, all of whose stages are done, and its database."""
    store = FakeStore(tmp_path_factory.mktemp("sound") / "store")
    store.run(digests=(store.plan(seeds=1),))
    store.scheduler(RunStarted(run="r1"))
    store.finish_all()
    ingest(store.paths)
    return store.paths


def kind(path: Path) -> str:
    """A file's name, without the keys in it."""
    return re.sub("[0-9a-f]{8,}", "*", path.name)


def test_pickles_in_place_of_any_file_of_a_store_do_nothing(
    tmp_path: Path,
    sound: StorePaths,
    looked_up: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        schema, "_comment", lambda connection: None
    )  # takes most of a rebuild's time
    monkeypatch.setattr(schema, "SHIPPED", ("t_quantiles",))
    made = tmp_path / "made"
    names = {kind(path) for path in sound.root.rglob("*") if path.is_file()}
    assert {"result.json", "spec.json", "results.duckdb"} <= names
    for name in names:
        paths = StorePaths(tmp_path / name.replace("*", "some"))
        shutil.copytree(sound.root, paths.root)
        for path in paths.root.rglob("*"):
            if path.is_file() and kind(path) == name:
                path.write_bytes(raw(made))
        refuse(lambda paths=paths: verify(paths))
        refuse(lambda paths=paths: query.run(paths, "SELECT count(*) FROM stages"))
    assert not looked_up
    assert not made.exists()


@pytest.mark.parametrize("make", PAYLOADS)
@pytest.mark.parametrize("load", [load_state, load_masks, read_checked])
def test_pickles_in_place_of_a_checkpoint_do_nothing(
    tmp_path: Path,
    make: Callable[[Path], bytes],
    load: Callable[[Path], object],
    looked_up: list[tuple[Any, ...]],
) -> None:
    made, file = tmp_path / "made", tmp_path / "final.safetensors"
    file.write_bytes(make(made))
    with pytest.raises(PrunectlError):
        load(file)
    assert not looked_up
    assert not made.exists()


@pytest.mark.parametrize("make", [raw, torch_file])
def test_pickles_in_place_of_any_file_of_an_archive_do_nothing(
    tmp_path: Path,
    sound: StorePaths,
    make: Callable[[Path], bytes],
    looked_up: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the archive says that they are what they are."""
    monkeypatch.setattr(archive, "_check_stages", lambda *_: None)  # of which none has weights
    made, folder = tmp_path / "made", tmp_path / "archive"
    archive.finish(folder, archive.export_study(sound, "demo", folder))
    make_writable(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        before = path.read_bytes()
        path.write_bytes(make(made))
        if path.name != archive.MANIFEST:
            reseal(folder)
        refuse(lambda: Import(folder, StorePaths(tmp_path / "into")).run())
        path.write_bytes(before)
    assert not looked_up
    assert not made.exists()
