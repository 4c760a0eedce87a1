"""Runs parts one after another, each in a process of its own, and keeps each result as soon as it is there."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from prunectl.bench.card.records import Card, Order, Outcome, PartResult
from prunectl.bench.card.steps import Step
from prunectl.bench.cleanup import children, end
from prunectl.bench.records import Machine
from prunectl.bench.rounds import BenchError, one_thread
from prunectl.child import describe_exit, module_command
from prunectl.scheduler.parent_death import dies_with_us
from prunectl.store.records.base import BadRecord, decode, encode, read_record, write_record

Tell = Callable[[str], None]
COMMAND = module_command("prunectl.bench.card.child")
LAST_LINES = 3
"""Lines of a part's stderr that are kept where it fails."""


class Runner:
    """Does the parts that are lacking in a folder. For use inside `cleanup.orderly`, which adopts what they start."""

    def __init__(
        self,
        folder: Path,
        machine: Machine,
        devices: Sequence[str],
        tell: Tell,
        *,
        device: str = "cuda:0",
        quick: bool = False,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`command` starts a part's process; the order is added to it.

        Raises:
            BenchError: where the folder has results of other sizes, or of another model of card.
            StoreError: where the results file cannot be read.
        """
        self.folder, self.device, self.quick = folder.absolute(), device, quick
        self.file = results_file(self.folder)
        self._tell, self._command = tell, command
        try:
            self.card = read_record(self.file, Card)
        except FileNotFoundError:
            self.card = Card(machine, tuple(devices), quick)
        if self.card.quick != quick:
            made = "with --quick" if self.card.quick else "without --quick"
            raise BenchError(f"{self.file} was made {made}: give another --out, or --fresh")
        if set(self.card.devices) != set(devices):
            before, now = (" and ".join(sorted(set(each))) for each in (self.card.devices, devices))
            raise BenchError(
                f"{self.file} was made on {before}, and here is {now}: give another --out, or --fresh"
            )

    def forget(self, parts: Sequence[tuple[Step, str]]) -> None:
        """Forget the results of these parts, so that they are done again."""
        names = {(step.name, part) for step, part in parts}
        kept = (each for each in self.card.parts if (each.step, each.part) not in names)
        self._keep(tuple(kept))

    def lacking(self, parts: Sequence[tuple[Step, str]]) -> list[tuple[Step, str]]:
        """Return those of the parts that have no result."""
        return [(step, part) for step, part in parts if self.card.result(step.name, part) is None]

    def run(self, parts: Sequence[tuple[Step, str]]) -> None:
        """Do those of the parts that are lacking; the results file is whole at every moment."""
        waiting = self.lacking(parts)
        for number, (step, part) in enumerate(waiting):
            self._tell(f"{number + 1} of {len(waiting)}: {step.name}/{part} …")
            result = self._do(step, part)
            self._keep((*self.card.parts, result))
            self._tell(f"  {summary(result)}")

    def _keep(self, parts: tuple[PartResult, ...]) -> None:
        self.card = replace(self.card, parts=parts)
        write_record(self.file, self.card)

    def _do(self, step: Step, part: str) -> PartResult:
        """Do a part in a process; kill it at its time limit, with all that it started."""
        order = Order(step.name, part, str(self.folder), self.device, self.quick)
        others, started = set(children()), time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                # It dies with this process, even where that is killed and can end nothing itself.
                dies_with_us([*self._command, encode(order).decode()]),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**one_thread(), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
            )
            code: int | None
            try:
                code = process.wait(step.seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end(others)
                process.poll()
            for file in (out, err):
                file.seek(0)
            said = err.read().decode(errors="replace").strip().splitlines()
            result = PartResult(
                step.name,
                part,
                "limit" if code is None else "failed",
                seconds=time.monotonic() - started,
                ended=time.time(),
                device=self.device,
            )
            if code is None:
                return replace(result, message=f"killed after {step.seconds:g} s")
            if code:
                last = "\n".join([describe_exit(code), *said[-LAST_LINES:]])
                return replace(result, message=last)
            try:
                outcome = decode(out.read(), Outcome, f"what {result.name} printed")
            except BadRecord as error:
                return replace(result, message=str(error))
        return replace(result, status="skipped" if outcome.skipped else "done", outcome=outcome)


def reset(folder: Path) -> None:
    """Remove the results of a folder, and what parts left to each other."""
    if results_file(folder).exists():  # else it is not ours
        results_file(folder).unlink()
        shutil.rmtree(folder / "work", ignore_errors=True)


def results_file(folder: Path) -> Path:
    """Return the results file of a folder."""
    return folder / "results.json"


def summary(result: PartResult) -> str:
    """Say how a part ended, in a line."""
    wrong = [each for each in result.outcome.checks if not each.passed]
    said = f"{result.status}, {result.seconds:.0f} s"
    if result.message:
        return f"{said}: {result.message.splitlines()[-1]}"
    if result.outcome.skipped:
        return f"{said}: {result.outcome.skipped}"
    if wrong:
        return f"{said}; NOT so: {'; '.join(f'{each.what} ({each.found})' for each in wrong)}"
    return (
        f"{said}; {len(result.outcome.checks)} checks hold, {len(result.outcome.figures)} figures"
    )
