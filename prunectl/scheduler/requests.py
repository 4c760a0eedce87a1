"""Obeying requests: each is done, logged with its answer, and only then removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunectl.errors import PrunectlError, StoreError
from prunectl.store import requests as control

if TYPE_CHECKING:
    from prunectl.scheduler.scheduler import Scheduler


def obey(scheduler: Scheduler) -> bool:
    """Obey what has been asked for since; whether there was anything."""
    requests = control.pending(scheduler.paths)
    for request in requests:
        name = request["id"]
        if name not in scheduler.ledger.history.answered:
            try:
                ok, answer = True, _do(scheduler, request)
            except (PrunectlError, KeyError, TypeError, ValueError) as error:
                ok = False
                answer = (
                    str(error) if isinstance(error, PrunectlError) else f"bad request: {error!r}"
                )
            try:
                scheduler.ledger.log("request", request=request, ok=ok, answer=answer, durable=True)
            except StoreError as error:
                scheduler.ledger.report(error)  # the disk is full: it stays, and is answered later
                return True
        control.withdraw(scheduler.paths, name)
    return bool(requests)


def _do(scheduler: Scheduler, request: dict[str, Any]) -> str:
    match request["do"]:
        case "cancel" | "hold" | "release" | "retry" | "priority" as do:
            return _change(scheduler, do, request)
        case "stop" if request["id"] in scheduler.asked_before:
            return "meant for a scheduler before this one"
        case "stop":
            scheduler.stop(now=bool(request.get("now")))
            return "stopping now" if request.get("now") else "stopping after a checkpoint"
        case "add-plan":
            if scheduler.stopping is not None:
                raise StoreError("the scheduler is stopping")
            return scheduler.add_plan(str(request["plan"]))
        case "drain":
            return scheduler.drain(str(request["device"]))
        case "undrain":
            return scheduler.undrain(str(request["device"]))
        case other:
            raise ValueError(f"unknown request {other!r}")


def _change(scheduler: Scheduler, do: str, request: dict[str, Any]) -> str:
    trials = [str(trial) for trial in request["trials"]]
    queue = scheduler.queue
    record = control.action_record(
        do, request, scheduler.ledger.history, scheduler.work.graph.studies.values()
    )
    match do:
        case "cancel":
            queue.cancel(trials)
        case "hold":
            queue.hold(trials)
            scheduler.held_here.update(trials)
        case "release":
            queue.release(trials)
            scheduler.held_here.difference_update(trials)
        case "retry":
            keys = set(record["keys"]) | set(queue.retry(trials))
            record["keys"] = sorted(keys)
            scheduler.work.forget_failures(trials)
        case "priority":
            queue.prioritise(record["values"])
    scheduler.ledger.log(**record, durable=True)
    return control.done_text(do, len(trials))
