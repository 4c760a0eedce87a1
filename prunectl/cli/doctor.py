"""`doctor`: what a run would meet on this machine, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.tables import console, print_json, table
from prunectl.text import plural

if TYPE_CHECKING:  # msgspec, which `--help` must not pay for
    from pathlib import Path

    from prunectl.child import Asked
    from prunectl.findings import Finding

SIGNS = {"ok": "ok", "warning": "warning", "error": "ERROR"}


def doctor(
    store: StoreOption = None,
    limit: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="For whatever hangs to answer.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Look at driver, devices, torch, cores and disk: what a run would meet here. Exits with 1 on errors."""
    from prunectl.findings import Examination
    from prunectl.store.paths import StorePaths

    found = Examination(tuple(_examine(StorePaths.locate(store).root, limit)))
    if as_json:
        print_json(found)
    else:
        _print(found.findings)
    if any(each.health == "error" for each in found.findings):
        raise typer.Exit(1)


def _examine(folder: Path, limit: float) -> Iterator[Finding]:
    """Ask everybody in processes of their own, since each may hang, and judge what they say."""
    from prunectl.store import doctor as disk

    store = disk.ask(folder, limit)
    yield from _devices(limit)
    yield from _cores()
    yield from _store(folder, store)


def _devices(limit: float) -> Iterator[Finding]:
    """Look at the driver, at NVML, at each device, and at torch."""
    from prunectl.scheduler import doctor
    from prunectl.scheduler.devices.cards import nvidia_cards
    from prunectl.scheduler.devices.driver import ask_driver, full_names
    from prunectl.scheduler.devices.locks import holder
    from prunectl.scheduler.devices.nvml_facts import Nvml
    from prunectl.worker import torch_facts

    asked, ask = doctor.ask_nvml(limit), partial(ask_driver, seconds=limit)
    driver = ask(os.environ)
    yield from doctor.driver_findings(driver, nvidia_cards(), os.environ)
    names = full_names(os.environ, driver.devices, ask) if driver.devices else []
    nvml, why = _answer(asked, Nvml)
    if nvml is None:
        yield doctor.no_answer("NVML", why)
    else:
        yield from doctor.nvml_findings(nvml, len(driver.devices))
    yield from doctor.device_findings(driver, names, nvml, {name: holder(name) for name in names})
    # Only now: it takes memory of the devices, which NVML would see.
    facts, why = _answer(torch_facts.ask(limit), torch_facts.TorchFacts)
    if facts is None:
        yield torch_facts.no_answer(why)
    else:
        yield from torch_facts.findings(facts, driver.cuda, len(driver.devices))


def _cores() -> Iterator[Finding]:
    """Look at the cores that a run would use."""
    from prunectl.scheduler import doctor
    from prunectl.scheduler.devices import cpu

    cores, threads = cpu.usable_cores(), os.environ.get("OMP_NUM_THREADS")
    yield from doctor.cpu_findings(cores, os.cpu_count() or cores, cpu.cpu_quota(), threads)


def _store(folder: Path, asked: Asked) -> Iterator[Finding]:
    """Return what was found of the store's disk."""
    from prunectl.findings import Finding

    found, why = _answer(asked, list[Finding])
    if found is None:
        advice = "is it on a network disk that is out of reach? Name another with --store"
        yield Finding("store", "error", f"{folder} cannot be tried: {why}", advice)
    yield from found or ()


def _answer(asked: Asked, kind: Any) -> tuple[Any, str]:
    """Return an answer as a record, or None and why there is none."""
    from prunectl.child import NoAnswer
    from prunectl.errors import StoreError
    from prunectl.store.records.base import decode

    try:
        return decode(asked.answer(), kind, "the answer"), ""
    except (NoAnswer, StoreError) as error:
        return None, str(error)


def _print(findings: tuple[Finding, ...]) -> None:
    out = console()
    rows = []
    for each in findings:
        rows.append([SIGNS[each.health], each.about, each.found])
        if each.advice:
            rows.append(["", "", f"→ {each.advice}"])
    out.print(table(["", "", "found"], rows, left=range(3)))
    counts = {kind: sum(each.health == kind for each in findings) for kind in SIGNS}
    errors, warnings = plural(counts["error"], "error"), plural(counts["warning"], "warning")
    out.print(f"{errors}, {warnings}", markup=False)
