"""The publications whose numbers come with prunectl, and what is known of how their networks were trained."""

from __future__ import annotations

SOURCES = ("renda2020", "mikler2021", "mikler2021-thesis")

STATED_STEP = {"renda2020": 0.2}
"""The fraction removed per iteration of iterative pruning where the table leaves it out but the paper has one."""

RECIPES = {
    "renda2020": ("renda2020-cifar", "renda2020-cifar-vgg", "renda2020-imagenet"),
    "mikler2021": ("mikler2021-resnet", "mikler2021-wrn"),
    "mikler2021-thesis": ("mikler2021-thesis-wrn",),
}
"""The shipped recipes that train as a publication did: length, batch, rates, decay, augmentation, shortcuts."""
