"""A worker that trains nothing: it speaks the worker protocol, keeps the store's promises, and fails as a test asks.

`<store>/fake.json` says how: {"steps": 10, "seconds": 0.01 (per step), "beat": 0.05, "modes": {key: mode or
[mode of the first attempt, of the second, …]}, "saturates": stages (more of them side by side are slower),
"room": stages that a worker has memory for,
"memory": bytes of a stage, "mixed": true (beside what other workloads left warm)}. Modes: normal, slow, crash, exit,
hang, oom, oom-crowded (only beside others), exception, nonfinite, deaf (ignores stop and cancel),
forgetful (keeps no checkpoints), noting (has something to say, twice), liar (done without a result), missing,
stale (also says what an attempt before it would), device (loses the worker's device in the stage). "code": another
version of the package than the scheduler's. "lost": [prefixes of CUDA_VISIBLE_DEVICES]: these devices are broken.
`<store>/trace.jsonl` gets a line per start and end of a stage.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from prunectl.errors import StoreBusy
from prunectl.store.files import write_text
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import write_record
from prunectl.store.records.events import Epoch, Failed, Interrupted, Start
from prunectl.store.records.journal import Journal
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_spec
from prunectl.version import code_version


class Stage:
    """One stage, simulated."""

    def __init__(self, worker: Worker, key: str, keep: list[int], attempt: int) -> None:
        self.worker, self.key, self.keep, self.attempt = worker, key, keep, attempt
        self.files = worker.paths.stage(key)
        self.stage = read_spec(self.files).stage
        self.lock = Lock(self.files.lock)
        self.lock.acquire(f"fake {os.getpid()}")
        self.journal = Journal(self.files.events, attempt=attempt)
        modes = worker.settings.get("modes", {}).get(key, "normal")
        broken = worker.settings.get("lost")
        if broken and os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith(tuple(broken)):
            modes = "device"
        self.mode = modes if isinstance(modes, str) else modes[min(attempt, len(modes)) - 1]
        parent = self.stage.mask.parent if self.stage.mask else None
        if parent and not worker.paths.stage(parent).final.exists():
            self.close()
            raise Missing(parent)
        self.steps = self.stage.steps
        latest = self.files.latest
        self.step = int(latest.read_text()) if latest.exists() else 0
        self.journal.append(Start(key=key, step=self.step, device="fake", pid=os.getpid()))
        worker.trace("start", key)

    def advance(self) -> str | None:
        """One step; the message that ends the stage, if it does."""
        self.step += 1
        if self.mode != "forgetful" or self.stage.replay:
            for step in self.keep:
                if step == self.step - 1 or (step == self.step == self.steps):
                    write_text(self.files.rewind(step), "state")
        if self.step >= self.steps // 2:
            self.fail_as_asked()
        if self.step < self.steps:
            return None
        if 0 in self.keep and not self.steps:
            write_text(self.files.rewind(0), "state")
        if self.mode != "liar":
            found = {"accuracy": 90.0}
            self.journal.append(
                Epoch(epoch=1, step=self.step, loss=0.1, score=90.0, metrics=dict(found))
            )
            write_text(self.files.final, "weights")
            result = Result(
                key=self.key, steps=self.steps, loss=0.1, score=90.0, metrics=dict(found),
                seconds=self.worker.settings.get("seconds", 0.01) * self.steps,
            )  # fmt: skip
            self.journal.append(result)
            write_record(self.files.result, result)
        self.worker.trace("done", self.key)
        return "done"

    def fail_as_asked(self) -> None:
        if len(self.worker.stages) > self.worker.settings.get("room", 1 << 20):
            raise MemoryError("out of memory")
        match self.mode:
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                print("RuntimeError: the driver is gone", file=sys.stderr, flush=True)
                os._exit(3)
            case "hang":
                time.sleep(3600)
            case "oom":
                raise MemoryError("out of memory")
            case "oom-crowded" if len(self.worker.stages) > 1:
                raise MemoryError("out of memory")
            case "exception":
                raise RuntimeError(f"broken at step {self.step}")
            case "nonfinite":
                raise FloatingPointError("weights are not finite")
            case "missing":
                raise FileNotFoundError("final.safetensors")
            case "device":
                raise DeviceLost("CUDA error: unspecified launch failure")

    def leave(self) -> None:
        write_text(self.files.latest, str(self.step))
        self.journal.append(Interrupted(step=self.step))
        self.worker.trace("interrupted", self.key)
        self.close()

    def close(self) -> None:
        self.journal.close()
        self.lock.release()


class Missing(FileNotFoundError):
    """The parent's end is not there; the key is the only argument."""


class DeviceLost(RuntimeError):
    """The worker can use its device no more."""


REASONS = {
    DeviceLost: "device",
    Missing: "missing",
    MemoryError: "oom",
    FloatingPointError: "nonfinite",
    FileNotFoundError: "missing",
    StoreBusy: "exception",
}


class Worker:
    def __init__(self, store: Path) -> None:
        self.paths = StorePaths(store)
        self.settings: dict[str, Any] = {}
        self.stages: dict[str, Stage] = {}
        self.stopping = False

    def send(self, kind: str, **fields: Any) -> None:
        print(json.dumps({"is": kind, **fields}), flush=True)

    def trace(self, what: str, key: str) -> None:
        line = {"what": what, "key": key, "pid": os.getpid(), "beside": len(self.stages)}
        line["cuda"] = os.environ.get("CUDA_VISIBLE_DEVICES")
        line["sharing"] = os.environ.get("PRUNECTL_SHARING")
        with (self.paths.root / "trace.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def carry_out(self, message: dict[str, Any]) -> None:
        key, attempt = message.get("key", ""), message.get("attempt", 0)
        match message["do"]:
            case "run":
                if self.paths.stage(key).result.exists():
                    self.send("done", key=key, attempt=attempt)
                    return
                try:
                    self.stages[key] = Stage(self, key, message["keep"], attempt)
                except Exception as error:
                    self.fail(key, attempt, error)
                    return
                self.send("started", key=key, attempt=attempt)
                if self.stages[key].mode == "noting":
                    for _ in range(2):
                        self.send("noted", key=key, attempt=attempt, text="fp16 is emulated")
                if self.stages[key].mode == "stale":
                    old = {"key": key, "attempt": attempt - 1}
                    self.send("beat", running={key: {"attempt": attempt - 1, "step": 10**6}})
                    self.send("failed", **old, reason="nonfinite", message="of an older attempt")
                    self.send("interrupted", **old)
                    self.send("done", **old)
            case "cancel" if key in self.stages and self.stages[key].mode != "deaf":
                stage = self.stages.pop(key)
                stage.leave()
                self.send("interrupted", key=key, attempt=stage.attempt, step=stage.step)
            case "stop":
                self.stopping = True

    def fail(self, key: str, attempt: int, error: Exception) -> None:
        reason = REASONS.get(type(error), "exception")
        stage = self.stages.pop(key, None)
        text = traceback.format_exc()
        if stage is not None:
            stage.journal.append(Failed(reason=reason, message=str(error), traceback=text))
            self.trace("failed", key)
            stage.close()
        missing = error.args[0] if isinstance(error, Missing) else None
        facts = {"message": str(error), "traceback": text, "step": 0, "missing": missing}
        self.send("failed", key=key, attempt=attempt, reason=reason, **facts)
        if reason == "device":
            os._exit(1)

    def run(self) -> None:
        self.settings = json.loads((self.paths.root / "fake.json").read_text())
        if self.settings.get("stillborn"):
            print("ImportError: no torch here", file=sys.stderr, flush=True)
            sys.exit(1)
        print("a library says hello", flush=True)
        self.send("ready", device_name="fake", code=self.settings.get("code") or code_version())
        buffer, beat = b"", time.monotonic()
        while True:
            slower = max(1, (len(self.stages) / self.settings.get("saturates", 1 << 20)) ** 2)
            pause = slower * self.settings.get("seconds", 0.01) if self.stages else 3600
            if select.select([0], [], [], pause)[0]:
                data = os.read(0, 65536)
                if not data:
                    sys.exit(1 if self.stages else 0)
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self.carry_out({"keep": [], **json.loads(line)})
            for key, stage in list(self.stages.items()):
                if self.stopping and stage.mode != "deaf":
                    del self.stages[key]
                    stage.leave()
                    self.send("interrupted", key=key, attempt=stage.attempt, step=stage.step)
                    continue
                if stage.mode in ("slow", "deaf") and stage.step >= stage.steps // 2:
                    continue
                try:
                    ended = stage.advance()
                except Exception as error:
                    self.fail(key, stage.attempt, error)
                    continue
                if ended:
                    del self.stages[key]
                    stage.close()
                    self.send(ended, key=key, attempt=stage.attempt)
            if self.stopping and not self.stages:
                sys.exit(0)
            if self.stages and time.monotonic() - beat > self.settings.get("beat", 0.05):
                beat = time.monotonic()
                progress = {
                    key: {
                        "attempt": stage.attempt,
                        "step": stage.step,
                        "steps": stage.steps,
                        "loss": 1.0,
                        "score": 50.0,
                    }
                    for key, stage in self.stages.items()
                }
                memory = self.settings.get("memory", 0) * len(self.stages)
                lanes = None if self.settings.get("mixed") else len(progress)
                self.send("beat", running=progress, memory=memory, lanes=lanes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for option in ("--store", "--data", "--device", "--slots"):
        parser.add_argument(option)
    Worker(Path(parser.parse_args().store)).run()
