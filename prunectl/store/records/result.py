"""The result of a stage, `stages/<key>/result.json`: written last, so that a stage that has one is done.

    key             the stage's key, 64 hex digits
    replay          bool: it trained a dense network again to leave a checkpoint, and measured nothing
    seed, iteration of its spec
    steps           optimizer steps done: fewer than planned where it diverged
    flag            diverged (a loss is not finite) | collapsed (no better than guessing) | null
    kept, prunable  prunable weights that the mask keeps, and all of them
    parameters, kept_parameters   the same of all parameters
    macs, macs_dense              multiply-adds for one image: of kept weights, and of the dense network
    dead_layers     names of layers that lost all their weights
    accuracy_pruned, accuracy_start, loss_start   as in the log (`events`); the first is null for a dense network
    train_loss, train_accuracy, loss, accuracy, top5, validation_accuracy, validation_loss   of the last epoch
    best_accuracy   highest test accuracy of its epochs, percent
    epochs          evaluations
    retrain_epochs  length of its training in epochs of the data set
    seconds         training time of its epochs, s
    peak_memory     most bytes that its worker used of the device, with the stages beside it
    device, device_name, mode     where it trained, and how steps were launched (`Trainer.mode`)
    attempt         attempts it took, the last included
    versions        {package: version}
    started, ended  of the last attempt, Unix seconds
    files           {name: bytes} of its checkpoints and mask

A replay has no counts, accuracies and losses before the first step; without epochs, those of the last epoch are null.
The columns of the table `stages` in SQL are these; db/column_docs.toml has the texts that users see.
"""

from __future__ import annotations

FROM_LAST_EPOCH = ("train_loss", "train_accuracy", "loss", "accuracy", "top5")
"""Fields that are copied from the last epoch's record; those of the validation split are, too."""
