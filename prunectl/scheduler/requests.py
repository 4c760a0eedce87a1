"""Carrying out requests: each is done, logged with its answer, and only then removed.

A plan that is asked for when the scheduler is stopping is answered too, and left for the next one. What a scheduler had
accepted when it was killed, the next one asks itself for.
"""

from __future__ import annotations

from collections.abc import Callable

from prunectl.errors import DiskError, PrunectlError, StoreError
from prunectl.scheduler.dispatcher import Dispatcher
from prunectl.spec.state import State
from prunectl.store import requests
from prunectl.store.records.requests import (
    AddPlan,
    AnyTrialRequest,
    Cancel,
    Drain,
    Hold,
    Priority,
    Release,
    Request,
    Retry,
    Stop,
    Undrain,
    done_text,
)
from prunectl.store.records.scheduler_log import Answered, PrioritySet, Retried


class RequestHandler:
    """Carries out the requests that are left in the store while a scheduler runs."""

    def __init__(self, dispatcher: Dispatcher, stop: Callable[[bool], None]) -> None:
        """`stop` ends the run, at once if it is called with True."""
        self._dispatcher, self._stop = dispatcher, stop
        self._queue, self._log, self._paths = dispatcher.queue, dispatcher.log, dispatcher.paths
        self._held: set[str] = set()
        """Trials held during this run."""
        for plan in self._log.history.left_behind():
            self._ask_again(plan)
        # By id, not by time: a clock that was set back does not confuse it.
        self._asked_before = {request.id for request in requests.pending(self._paths)}

    def _ask_again(self, plan: str) -> None:
        """Ask for a plan (digest) that the last scheduler did not finish, but not for what of it has failed.

        Raises DiskError where there is no room for that: this scheduler would forget the plan for all that follow.
        """
        try:
            if requests.is_open(self._paths, self._log.history, plan):
                requests.add_plan(self._paths, plan)
        except DiskError:
            raise
        except StoreError as error:
            self._log.report(error)

    @property
    def waits_for_release(self) -> bool:
        """Return whether trials that were held during this run are all that is left: the run waits for them."""
        return any(self._queue.trial_state(trial) is State.HELD for trial in self._held)

    def carry_out(self) -> bool:
        """Carry out pending requests. Returns True if there were any."""
        pending = requests.pending(self._paths, self._log.report)
        for request in pending:
            answered = self._log.history.answered.get(request.id)
            if answered is None or (answered.later and not self._dispatcher.closed):
                answered = self._answer(request)
                try:
                    self._log.append(answered, durable=True)
                except StoreError as error:
                    self._log.report(error)  # the disk is full: it stays, and is answered later
                    return True
            if not answered.later:
                requests.withdraw(self._paths, request.id)
        return bool(pending)

    def _answer(self, request: Request) -> Answered:
        if isinstance(request, AddPlan) and self._dispatcher.closed:
            text = "stopping; the next scheduler runs the plan"
            return Answered(request=request, later=True, answer=text)
        try:
            return Answered(request=request, ok=True, answer=self._do(request))
        except PrunectlError as error:
            return Answered(request=request, answer=str(error))

    def _do(self, request: Request) -> str:
        match request:
            case Stop() if request.id in self._asked_before:
                return "meant for a scheduler before this one"
            case Stop():
                self._stop(request.now)
                return "stopping now" if request.now else "stopping after a checkpoint"
            case AddPlan(plan=digest):
                known = self._dispatcher.plans.graph.studies.get(digest)
                if known is not None and request.id in self._asked_before:
                    return f"{known.name} is queued already"
                return self._dispatcher.add_plan(digest)
            case Drain(device=name):
                self._dispatcher.devices.drain(name)
                return f"{name} is drained: its stages checkpoint and move"
            case Undrain(device=name):
                state, reason = self._dispatcher.devices.undrain(name)
                return (
                    f"{name} is used again" if state == "open" else f"{name} is {state}: {reason}"
                )
            case _:
                return self._change_trials(request)

    def _change_trials(self, request: AnyTrialRequest) -> str:
        trials = request.trials
        studies = self._dispatcher.plans.graph.studies.values()
        record = requests.action_record(request, self._log.history, studies)
        match request:
            case Cancel():
                self._queue.cancel(trials)
            case Hold():
                self._queue.hold(trials)
                self._held.update(trials)
            case Release():
                self._queue.release(trials)
                self._held.difference_update(trials)
            case Retry():
                assert isinstance(record, Retried)
                record.keys = tuple(sorted({*record.keys, *self._queue.retry(trials)}))
                self._dispatcher.failures.forget(trials)
            case Priority():
                assert isinstance(record, PrioritySet)
                self._queue.prioritise(record.values)
        self._log.append(record, durable=True)
        return done_text(request)
