"""Records of a stage's log, `stages/<key>/events.jsonl`: what its worker did, as it happened.

`store.journal` writes and reads them, and describes the fields that every record has: seq, attempt, time, type. In the
order they come (accuracies in percent, losses in nats and null where they are not finite, `seconds` in seconds, steps
and epochs counted from the start of the stage):

    start       step (0, or where a checkpoint resumed), resumed (bool), device (id), device_name, host, pid,
                versions {package: version}
    pruned      what the new mask leaves, as in `result`: kept, prunable, parameters, kept_parameters, macs, macs_dense,
                dead_layers; layers [{name, total, kept}] (weights, a layer each, in the network's order);
                accuracy_pruned, loss_pruned (the parent's end weights under the new mask)
    begin       accuracy_start, loss_start (before the first step, after any rewinding)
    epoch       epoch (1, 2 …: evaluations of this stage), step (steps done), lr (of the last step),
                rates [[first step, lr] …] (runs applied since the last record), train_loss, train_accuracy,
                loss, accuracy, top5 (of the test set), validation_loss, validation_accuracy (null without a split),
                seconds (since the epoch before)
    checkpoint  step, file (its name in the stage's folder)
    note        text (for people)
    interrupted step
    failed      reason, message, traceback (or the last lines of a worker that is gone), and from the worker itself
                step; missing (with this reason only: key of the stage that lacks a file)
    done        what result.json holds (`result`)

The reasons of failures, here, in messages and in the scheduler's log:

    oom         memory of the device or the host ran out
    nonfinite   the parent's weights are not finite: they cannot be scored
    missing     a stage that this one builds on lacks the file it needs
    disk        the disk is full or read-only: no fault of the stage, the run ends (never in the scheduler's log)
    exception   any other exception
    lost        the worker is gone, or said done and there is no result
    hung        the worker gave no sign of progress for too long, and was killed
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prunectl.store.journal import Record


def latest_epochs(records: Iterable[Record]) -> list[Record]:
    """Return the epoch records that count, in order: of epochs logged again after a crash the latest attempt's."""
    # A later attempt's records come later in the log.
    found = {record.get("epoch", 0): record for record in records if record.get("type") == "epoch"}
    return [found[epoch] for epoch in sorted(found)]


def last(records: Sequence[Record], kind: str) -> Record | None:
    """Return the last record of a type, None where there is none."""
    return next((record for record in reversed(records) if record.get("type") == kind), None)
