"""The two lines on top of every screen as texts with styles: the scheduler, progress, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from prunectl.monitor.snapshot import PlanView, SchedulerView, Snapshot
from prunectl.spec.state import State
from prunectl.tui import text as t
from prunectl.tui.keymap import hint

Part = tuple[str, str]
"""Text and the name of its style."""

SILENT_SECONDS = 10.0
"""Without a heartbeat before a scheduler that holds its lock is called silent."""
COUNTED = (
    *(State.RUNNING, State.WAITING, State.HELD, State.INTERRUPTED),
    *(State.FAILED, State.BLOCKED, State.CANCELLED),
)
"""States of trials that are counted beside those that are done, in this order."""
MODES = (("1", "Dashboard"), ("2", "Leaderboard"), ("3", "SQL"))


def width_of(parts: Sequence[Part]) -> int:
    """Return the columns that the parts take."""
    return sum(len(text) for text, _ in parts)


def scheduler(view: SchedulerView, now: float, late: float = 0.0) -> list[Part]:
    """Say whether a scheduler is running; `late` is the age of the snapshot, s."""
    if view.alive:
        age = None if view.age is None else view.age + max(0.0, late)
        if age is not None and age > SILENT_SECONDS:
            return [("● ", "warn"), (f"scheduler silent for {t.duration(age)}", "warn")]
        if view.stopping:
            return [("◐ ", "warn"), ("stopping: epochs are being finished", "warn")]
        beat = "" if age is None else f", beat {age:.0f} s"
        return [("● ", "good"), (f"scheduler{beat}", "")]
    if view.age is None:
        return [("○ ", "dim"), ("no scheduler yet", "")]
    if view.ended is not None:
        return [("○ ", "dim"), (f"no scheduler since {t.minutes(view.ended, now)}", "")]
    since = t.minutes(now - view.age - late, now)
    return [("○ ", "bad"), (f"the scheduler vanished about {since}", "bad")]


def advice(snapshot: Snapshot) -> str:
    """Say what to do where nothing goes on by itself; "" otherwise."""
    if snapshot.unreadable:
        return f"left out: {snapshot.unreadable[0]}"
    if snapshot.scheduler.alive:
        return snapshot.scheduler.trouble or ""
    if not snapshot.trials:
        return "`prunectl run PLAN` starts one"
    states = {view.state for view in snapshot.trials}
    if states == {State.DONE}:
        return f"{hint('app.leaderboard', '2')}: what came out"
    if State.FAILED in states:
        return f"{hint('dashboard.list', 'F')}: what failed, {hint('trial.retry', 'R')}: retry, then `prunectl run`"
    return "`prunectl run PLAN` goes on"


def _active(snapshot: Snapshot) -> list[PlanView]:
    """Return the plans that run, or all where none does."""
    return [plan for plan in snapshot.plans if plan.active] or list(snapshot.plans)


def progress(snapshot: Snapshot) -> tuple[int, int]:
    """Return steps done and steps in all, of the plans that run, or of all plans where none does."""
    plans = _active(snapshot)
    return sum(plan.steps_done for plan in plans), sum(plan.steps for plan in plans)


def counts(snapshot: Snapshot) -> str:
    """Count trials by state: ``412/640 done · 8 running · 6 failed``."""
    total = sum(snapshot.counts.values())
    words = [f"{snapshot.counts.get(State.DONE, 0)}/{total} done"]
    for state in COUNTED:
        if snapshot.counts.get(state):
            words.append(f"{snapshot.counts[state]} {state}")
    return " · ".join(words)


def status(snapshot: Snapshot | None, now: float, width: int, trouble: str = "") -> list[Part]:
    """Return the second line. Where there is little room the bar goes first, then counts, then what to do."""
    if trouble:
        return _cut([("! ", "bad"), (f"cannot read the store: {trouble}", "bad")], width)
    if snapshot is None:
        return [("reading the store …", "dim")]
    head = scheduler(snapshot.scheduler, now, now - snapshot.time)
    if what := advice(snapshot):
        head.append((f" · {what}", "warn" if snapshot.scheduler.alive else "dim"))
    done, steps = progress(snapshot)
    if not steps:
        more = f"  {counts(snapshot)} · reading the plans …" if snapshot.trials else ""
        return _cut([*head, (more, "")], width)
    share = done / steps
    known = t.finite(snapshot.scheduler.eta) is not None and snapshot.scheduler.alive
    eta = f"  ETA {t.minutes(snapshot.scheduler.eta, now)}" if known else ""
    numbers = f"  {_percent(share)} %{eta}  {counts(snapshot)}"
    room = width - width_of(head) - len(numbers) - 2
    if room >= 6:
        return [*head, ("  ", ""), (t.boxed(share, min(30, room)), "accent"), (numbers, "")]
    return _cut([*head, (numbers, "")], width)


def _percent(share: float) -> str:
    """Write percent with one digit, never 100.0 before all is done."""
    return f"{min(share, 1.0 if share >= 1 else 0.999) * 100:.1f}"


def _cut(parts: list[Part], width: int) -> list[Part]:
    out: list[Part] = []
    for text, style in parts:
        left = width - width_of(out)
        if left <= 0:
            break
        out.append((text if len(text) <= left else text[: left - 1] + "…", style))
    return out


def context(snapshot: Snapshot | None, width: int) -> str:
    """Name the plan and the store, as far as there is room."""
    if snapshot is None:
        return ""
    names = [plan.title for plan in _active(snapshot)]
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    name = "".join(names[:1]) + more
    text = " · ".join(filter(None, (name, snapshot.store)))
    return text if len(text) <= width else name[: max(0, width)]
