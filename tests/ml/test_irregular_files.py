"""FIFOs, sockets, devices, links that lead nowhere, and what may not be read, in place of data files and folders."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prunectl.errors import DataError
from prunectl.ml.datasets import idx, imagenet, registry, scan, svhn
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.known_folders import load_options, save_options
from prunectl.ml.datasets.registry import complete, describe, ensure
from tests.support import hostile_files
from tests.support.command import Done, here
from tests.support.image_maker import write_images
from tests.support.tiny_plans import TINY

__all__ = ["here"]


@pytest.fixture
def wait_for_nothing() -> Iterator[None]:
    """Fails what would wait for ever."""

    def fail(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fifo(path: Path) -> str:
    os.mkfifo(path)
    return "is a FIFO"


def device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "is a device"


def unix_socket(path: Path) -> str:
    folder = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(folder)
    return "is a socket"


def circle(path: Path) -> str:
    path.symlink_to(path.name)
    return "is a link in a circle"


def dangling(path: Path) -> str:
    path.symlink_to("nowhere")
    return "is a link that leads nowhere"


def folder(path: Path) -> str:
    path.mkdir()
    return "is a folder, not a file"


ODDITIES = [fifo, device, unix_socket, circle, dangling, folder]
PLACES = {
    "mnist": ("mnist", idx.FILES),
    "fashion-mnist": ("fashion-mnist", idx.FILES),
    "cifar10": ("cifar-10-batches-py", list(registry.find("cifar10").files)),
    "cifar100": ("cifar-100-python", list(registry.find("cifar100").files)),
    "svhn": ("svhn", svhn.FILES),
}
"""Of each data set of published files: its folder, and the files in it."""


def test_every_data_set_of_published_files_is_tried() -> None:
    assert set(PLACES) == {name for name in registry.names() if registry.find(name).files}


@pytest.mark.usefixtures("wait_for_nothing")
@pytest.mark.parametrize("make", ODDITIES)
@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_is_named_before_anything_is_fetched(
    tmp_path: Path, name: str, make: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "none")
    inner, files = PLACES[name]
    for file in files:
        root = tmp_path / file
        place = root / inner
        place.mkdir(parents=True)
        for other in files:
            if other != file:
                (place / other).write_bytes(b"")
        what = make(place / file)
        told: list[str] = []
        with pytest.raises(DataError) as caught:
            ensure(name, root, progress=told.append)
        assert f"{place / file} {what}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert told == []


@pytest.mark.usefixtures("wait_for_nothing")
@pytest.mark.parametrize("make", ODDITIES[:-1])
@pytest.mark.parametrize("split", ["train", "val"])
def test_what_is_no_folder_is_named(
    tmp_path: Path, make: Callable[[Path], str], split: str
) -> None:
    write_images(tmp_path / "mine", 2, 1, folders="train val")
    shutil.rmtree(tmp_path / "mine" / split)
    what = make(tmp_path / "mine" / split)
    with pytest.raises(DataError, match=f"mine/{split} {what}"):
        describe("folder", {"path": str(tmp_path / "mine")})
    with pytest.raises(DataError, match=f"mine/{split} {what}"):
        imagenet.read(
            Finder("imagenet", tmp_path), complete("imagenet", {"path": str(tmp_path / "mine")})
        )
    with pytest.raises(DataError, match=f"mine/{split} {what}"):
        describe("folder", {"path": str(tmp_path / "mine" / split)})


@pytest.mark.usefixtures("wait_for_nothing")
def test_a_fifo_that_takes_the_place_of_a_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Each reader's own opening, whatever was looked at before."""
    for name in ("a.gz", "a.idx", "a.cifar", "a.mat", "a.png"):
        os.mkfifo(tmp_path / name)
        assert "is a FIFO" in hostile_files.read(tmp_path / name)
    save_options(tmp_path, "content-1", {"path": "x"})
    place = tmp_path / "places" / "content-1.json"
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(DataError, match="is a FIFO"):
        load_options(tmp_path, "content-1")


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, '{"path": 3', "\ud800"])
def test_options_of_a_place_that_are_no_object_are_named(tmp_path: Path, text: str) -> None:
    save_options(tmp_path, "content-1", {})
    place = tmp_path / "places" / "content-1.json"
    place.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(DataError, match=r"content-1\.json: "):
        load_options(tmp_path, "content-1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_what_may_not_be_looked_at_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[:3]:
        above.chmod(0o755)
    write_images(tmp_path / "mine", 2, 1)
    for name, (inner, files) in PLACES.items():
        (tmp_path / name / inner).mkdir(parents=True)
        for file in files:
            (tmp_path / name / inner / file).write_bytes(b"")
        (tmp_path / name / inner / files[0]).chmod(0)
    (tmp_path / "mine/train/ant").chmod(0)
    os.seteuid(65534)
    try:
        for name, (inner, files) in PLACES.items():
            with pytest.raises(DataError, match=f"{inner}/{files[0]}: Permission denied"):
                ensure(name, tmp_path / name)
        with pytest.raises(DataError, match="train/ant: Permission denied"):
            describe("folder", {"path": str(tmp_path / "mine")})
        os.seteuid(0)
        for place in [*PLACES, "mine"]:
            (tmp_path / place).chmod(0)
        os.seteuid(65534)
        for name in PLACES:
            with pytest.raises(DataError, match="unreadable: Permission denied"):
                ensure(name, tmp_path / name)
        with pytest.raises(DataError, match="mine: Permission denied"):
            describe("folder", {"path": str(tmp_path / "mine")})
        with pytest.raises(DataError, match="unreadable: Permission denied"):
            imagenet.read(Finder("imagenet", tmp_path / "mine"), complete("imagenet"))
    finally:
        os.seteuid(0)


def test_a_link_to_a_whole_disk_is_not_walked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "MOST_DEEPER", 50)
    write_images(tmp_path / "mine", 2, 1)
    for number in range(60):
        (tmp_path / "disk" / str(number)).mkdir(parents=True)
    (tmp_path / "mine/train/ant/disk").symlink_to(tmp_path / "disk")
    with pytest.raises(DataError, match="more than 50 folders lie in it"):
        describe("folder", {"path": str(tmp_path / "mine")})


@pytest.mark.usefixtures("wait_for_nothing")
def test_the_command_says_so_before_it_queues_anything(
    here: Callable[..., Done], tmp_path: Path
) -> None:
    plan, store = tmp_path / "plan.toml", tmp_path / "store"
    plan.write_text(TINY.replace('["toy"]', '["cifar10"]'))
    place = tmp_path / "data/cifar-10-batches-py"
    place.mkdir(parents=True)
    for name in registry.find("cifar10").files:
        (place / name).write_bytes(b"")
    (place / "data_batch_3").unlink()
    os.mkfifo(place / "data_batch_3")
    done = here("run", plan, "--store", store, "--data", tmp_path / "data", "--plain")
    assert done.returncode == 2
    assert f"{place / 'data_batch_3'} is a FIFO" in done.stderr
    assert "Traceback" not in done.stderr
    assert not store.exists()
