"""The two logs in words, for everybody who reads them: on the terminal, in the terminal UI, while a run goes on.

`describe` is for records of the scheduler's log (`records.scheduler_log`), `describe_event` for those of a stage's
(`records.events`).
"""

from __future__ import annotations

from prunectl.store.journal import Record
from prunectl.text import duration, number, plural, short, sparsity

QUIET = frozenset({"worker_started", "request"})
"""Types of records that are not worth a line: others say the same."""


def describe(record: Record) -> str:
    """Describe a record of the scheduler's log in words, without the trials it is about."""
    try:
        return _describe(record)
    except (KeyError, TypeError):  # of another version
        return str(record["type"])


def _describe(record: Record) -> str:
    match record["type"]:
        case "run_started":
            return f"run {record['run']} started on {', '.join(record['devices'])}"
        case "run_ended":
            return f"run {record['run']} {record['reason']}"
        case "queued":
            done = f"{record['done']} of {plural(record['stages'], 'stage')} done"
            return f"{record['name']} queued: {done}"
        case "dispatched":
            attempt = f", attempt {record['attempt']}" if record["attempt"] > 1 else ""
            return f"started on {record['device']}{attempt}"
        case "stage_done":
            accuracy = record.get("accuracy")
            text = "done" if accuracy is None else f"done, {accuracy:.2f} %"
            return f"{text} ({record['flag']})" if record.get("flag") else text
        case "stage_interrupted":
            return "interrupted"
        case "stage_failed":
            what = failure(record["reason"], record.get("message"))
            return f"failed, {what}" if record.get("final") else f"to be tried again, {what}"
        case "blocked":
            return f"{plural(len(record['keys']), 'stage')} blocked ({record['reason']})"
        case "cancelled" | "held" | "released" | "retried" as kind:
            if record["trials"]:
                return f"{kind} {plural(len(record['trials']), 'trial')}"
            return f"{kind} {plural(len(record['keys']), 'stage')}"
        case "priority":
            return f"priority of {plural(len(record['values']), 'trial')} set"
        case "drained" | "undrained" | "leased" as kind:
            return f"{record['device']} {kind} {record.get('reason', '')}".rstrip()
        case "lanes":
            many = "1 at a time" if record["lanes"] == 1 else f"{record['lanes']} side by side"
            return f"{record['device']}: {many} of {' on '.join(record['of'][:2])} ({record['reason']})"
        case "worker_ended":
            return f"worker {record['worker']} on {record['device']}: {record['reason']}"
        case "study_stopped":
            return f"{record['name']} {record['reason']}"
        case kind:
            return str(kind)


def failure(reason: str, message: object) -> str:
    """Return why a stage failed: its reason, and the message where there is one."""
    return f"{reason}: {message}" if message else reason


def describe_event(record: Record, iteration: int, goal: str) -> str:
    """Describe a record of a stage's log in words; "" for what says nothing to a reader.

    The stage is iteration `iteration` of a trial, which prunes to the sparsity `goal`.
    """
    get = record.get
    match get("type"):
        case "start":
            return _started(record, iteration, goal)
        case "pruned":
            dead = get("dead_layers") or ()
            lost = f", dead layers: {', '.join(map(str, dead))}" if dead else ""
            kept = f"{short(get('kept'))} of {short(get('prunable'))} weights kept"
            return f"pruned: {kept}, accuracy {number(get('accuracy_pruned'))}{lost}"
        case "begin":
            what = "retraining" if iteration else "training"
            return f"{what} starts from accuracy {number(get('accuracy_start'))}"
        case "epoch":
            losses = f"loss {number(get('loss'), 4)}  train {number(get('train_loss'), 4)}"
            accuracy = f"epoch {get('epoch')}  accuracy {number(get('accuracy'))}"
            return f"{accuracy}  {losses}  lr {short(get('lr'))}"
        case "checkpoint":
            return f"checkpoint at step {get('step')}"
        case "note":
            return str(get("text", ""))
        case "interrupted":
            return f"interrupted at step {get('step')}"
        case "failed":
            return f"failed, {failure(str(get('reason')), get('message'))}"
        case "done":
            flag = f", {get('flag')}" if get("flag") else ""
            return f"done: accuracy {number(get('accuracy'))}{flag} ({duration(get('seconds'))})"
    return ""


def _started(record: Record, iteration: int, goal: str) -> str:
    what = f"iteration {iteration}, to sparsity {sparsity(goal)}" if iteration else "dense network"
    how = f"goes on at step {record.get('step')}" if record.get("resumed") else "started"
    attempt = f", attempt {record['attempt']}" if record.get("attempt", 1) > 1 else ""
    return f"{what} {how} on {record.get('device')} (pid {record.get('pid')}{attempt})"
