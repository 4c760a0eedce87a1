"""What decides the numbers of one stage, as plain frozen values: no torch, no units but steps.

A plan resolves to these; `ml` trains by them; their canonical form is hashed into stage keys. So a field
added here needs a default that means "as before", and a default may change only together with `NUMERICS`
(prunectl/spec/key.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from prunectl.spec.ranges import Count, Fraction01, Real, Small, Whole

Shape = tuple[Small, Small, Small]
"""Channels, height, width of one image."""


class NetworkSettings(msgspec.Struct, frozen=True):
    """Which network, and the constants of its layers that recipes differ in."""

    name: str
    """A name `ml.networks.registry` knows, such as ``resnet-20``."""
    shape: Shape
    """Channels, height and width of an image."""
    classes: Small
    """Outputs of the network."""
    shortcut: Literal["projection", "projection-without-bn", "projection-everywhere", "padding"] = (
        "projection"
    )
    """How residual networks match shapes: 1×1 convolution and BatchNorm where the shape changes (He et al.'s
    option B), the same without BatchNorm, the same also in the first block of the first stage (Renda's code),
    or zero-padded identity (option A). Networks without shortcuts ignore it."""
    bn_momentum: Real = 0.1
    """PyTorch's convention: running = (1 − momentum)·running + momentum·batch. TensorFlow's decay .997 is .003."""
    bn_eps: Real = 1e-5
    """Added to the variance in BatchNorm."""
    initializer: Literal["pytorch", "he-uniform", "he-normal", "renda2020"] = "he-normal"
    """Kernels by fan-in (He et al. 2015), or ``renda2020``: variance scaling 1.0 by fan-in with a truncated
    normal for convolutions and N(0, 0.01²) for the dense layer. Biases 0, BatchNorm 1 and 0; ``pytorch`` is
    torch's own default for every layer."""


class DataSettings(msgspec.Struct, frozen=True):
    """Which images, and which of them are held out."""

    name: Annotated[
        str,
        Meta(
            description="name of the data set in the registry, such as cifar10; of one of the user's own that of its "
            "kind"
        ),
    ]
    fingerprint: str
    """Identifies the content; the registry's constant, or computed for a folder of the user's own."""
    options: tuple[tuple[str, str | Whole | Real | tuple[Real, ...]], ...] = ()
    """Options of the data set that say what the images are, as sorted (name, value) pairs: the shape of
    ``synthetic``, the size of a folder's images. Where files lie is not among them."""
    validation_from: Literal["none", "test", "train"] = "none"
    """Where the validation split is taken from. Renda et al. hold out 2,000 of CIFAR's 10,000 test images."""
    validation_count: Small = 0
    """Images in the validation split."""

    @property
    def test_items(self) -> DataSettings:
        """What decides which the test items are: the same without a validation split that is taken from elsewhere."""
        if self.validation_from == "test" and self.validation_count:
            return self
        return replace(self, validation_from="none", validation_count=0)


class OptimizerSettings(msgspec.Struct, frozen=True):
    """The optimizer and its constants; the learning rate is the schedule's."""

    name: Literal["sgd", "adam"] = "sgd"
    """Which optimizer."""
    momentum: Real = 0.9
    """Of SGD."""
    nesterov: bool = False
    """Nesterov momentum, of SGD."""
    weight_decay: Real = 0.0
    """PyTorch's convention: wd·w is added to the gradient. Keras' l2 = x is weight_decay = 2x."""
    decay: Literal["all", "weights"] = "all"
    """All parameters, or convolution and dense kernels only (neither biases nor BatchNorm)."""
    beta1: Real = 0.9
    """Decay of Adam's mean of gradients."""
    beta2: Real = 0.999
    """Decay of Adam's mean of squared gradients."""
    eps: Real = 1e-8
    """Added to the denominator in Adam."""


class AugmentSettings(msgspec.Struct, frozen=True):
    """Random changes of the training images: a random part of the image, or pad and crop back at a random
    offset; then flip."""

    pad: Small = 0
    """Pixels that are padded on each side; 0 for none."""
    padding: Literal["zero", "reflect"] = "zero"
    """Raw pixels are padded, before normalising."""
    flip: bool = False
    """Mirror left-right with probability 1/2."""
    crop: Literal["none", "random-resized"] = "none"
    """``random-resized`` takes a random part of the image as its file has it, scaled to the data set's shape;
    ``none`` takes what evaluation takes."""
    scale: tuple[Real, Real] = (0.08, 1.0)
    """Area of a random part, over the image's. 0.08 and the ratios are those of TensorFlow's reference ResNets
    (from memory: unverified) and of torchvision's."""
    ratio: tuple[Real, Real] = (3 / 4, 4 / 3)
    """Width over height of a random part."""

    @property
    def draws(self) -> bool:
        """Whether anything of it is random."""
        return bool(self.pad) or self.flip or self.crop != "none"


class NormalizeSettings(msgspec.Struct, frozen=True):
    """How uint8 pixels become floats: x/255, then minus mean over std."""

    kind: Literal["channel", "image"] = "channel"
    """Constants per channel, or each image by its own mean and std (TensorFlow's per_image_standardization:
    (x − mean) / max(std, 1/√pixels), over all channels together, in raw pixels 0 … 255, after augmentation)."""
    mean: tuple[Real, ...] = ()
    """As `std`."""
    std: tuple[Real, ...] = ()
    """One value per channel, in units of [0, 1] pixels; empty for ``image``."""


class TrainSettings(msgspec.Struct, frozen=True):
    """How a network is trained, but for its learning rates, its length, its seed and its masks."""

    batch: Small = 128
    """Images per optimizer step."""
    straddle: bool = False
    """Batches run across epoch borders (shuffle → repeat → batch), all of full size."""
    drop_last: bool = False
    """Without `straddle`: leave out the epoch's last, short batch."""
    micro_batch: Small = 0
    """Images that pass through the network at once, where a batch does not fit the device; 0 is the whole batch.
    The step's gradient is still the mean over the batch, but BatchNorm normalises each micro-batch by itself."""
    evaluate_every: Count = 0
    """Steps between evaluations; 0 evaluates at the end only. The end is always evaluated."""
    optimizer: OptimizerSettings = OptimizerSettings()
    label_smoothing: Real = 0.0
    """Probability that targets spread evenly over all classes, 0 to 1."""
    augment: AugmentSettings = AugmentSettings()
    normalize: NormalizeSettings = NormalizeSettings()
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Of matrix products and convolutions. With fp16 the loss is scaled, and steps whose gradients overflow are
    skipped."""
    deterministic: bool = True
    """Deterministic kernels only."""


class PruneSettings(msgspec.Struct, frozen=True):
    """Which weights a mask keeps, given the weights it is scored on and the mask before it."""

    criterion: str = "magnitude"
    """A name `ml.criteria.registry` knows."""
    scope: Literal["global", "layerwise", "uniform"] = "global"
    """Scores compete across all prunable layers, or within each layer at the same density, or within each
    layer but for the first and the last, which stay whole (``uniform``: uniform except ends)."""
    granularity: Literal["weight", "channel"] = "weight"
    """What is removed at a time."""
    density: Annotated[
        Fraction01,
        Meta(description="fraction kept of the dense network's prunable weights, 0 to 1, exact"),
    ] = "1"
    exclude: tuple[str, ...] = ()
    """Not prunable: ``first``, ``last``, ``shortcuts``, or layer names."""
    ratios: tuple[tuple[str, Fraction01], ...] = ()
    """Li et al.'s structured pruning: (layer, fraction of its filters removed) pairs; overrules `density`."""
