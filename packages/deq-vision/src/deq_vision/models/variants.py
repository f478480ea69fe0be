"""The released variants of MDEQ, and small ones for the profile mini."""

from dataclasses import dataclass, replace

import deq_core as deq
from deq_vision.config import Architecture, Classification, Equilibrium, Segmentation


@dataclass(frozen=True)
class Variant:
    """A named architecture and its default equilibrium."""

    architecture: Architecture
    equilibrium: Equilibrium


def _released(forward: int, backward: int, *, relative: bool) -> Equilibrium:
    def stop(steps: int) -> deq.Stop:
        return deq.Stop(max_steps=steps, tol=1e-3, relative=relative)

    adjoint = deq.Implicit(deq.Broyden(), stop(backward), on_failure="ignore")
    return Equilibrium(solver=deq.Broyden(), stop=stop(forward), adjoint=adjoint, numerics="released")


_SMALL = (32, 64, 128, 256)
_LARGE = (80, 160, 320, 640)
_XL = (88, 176, 352, 704)

CIFAR_TINY = Architecture(channels=(24, 24), dropout=0.25, head=Classification(channels=(8, 16), final=200, classes=10))
CIFAR_LARGE = Architecture(
    channels=_SMALL, dropout=0.3, head=Classification(channels=(14, 28, 56, 112), final=1680, classes=10)
)
CIFAR_LARGE_REG = replace(CIFAR_LARGE, dropout=0.22)
IMAGENET_SMALL = Architecture(
    channels=_SMALL,
    halvings=2,
    output_affine=True,
    head=Classification(channels=(24, 48, 96, 192), final=2048, classes=1000),
)
IMAGENET_SMALL_REG = replace(
    IMAGENET_SMALL,
    dropout=0.02,
    output_affine=False,
    head=Classification(channels=(28, 56, 112, 224), final=2048, classes=1000),
)
IMAGENET_LARGE = replace(
    IMAGENET_SMALL, channels=_LARGE, head=Classification(channels=(32, 64, 128, 256), final=2048, classes=1000)
)
IMAGENET_LARGE_REG = replace(IMAGENET_LARGE, output_affine=False)
IMAGENET_XL = replace(IMAGENET_LARGE, channels=_XL, expansion=6)
CITYSCAPES_SMALL = Architecture(
    channels=_SMALL, dropout=0.05, halvings=2, output_affine=True, momentum=0.01, head=Segmentation(classes=19)
)
CITYSCAPES_LARGE = replace(CITYSCAPES_SMALL, channels=_LARGE, dropout=0.03)
CITYSCAPES_XL = replace(CITYSCAPES_SMALL, channels=_XL, expansion=6, dropout=0.04)

# For images of 32x32 and 64x128 pixels, trained on a CPU in minutes: a quarter of the image's resolution, injection
# into every branch, and a small output gain, without which the Jacobian's spectral radius exceeds 1 before training.
MINI_DIGITS = Architecture(
    channels=(24, 32),
    expansion=3,
    halvings=2,
    injection="all",
    injection_gain=2.0,
    output_affine=True,
    output_gain=0.5,
    initialisation="default",
    head=Classification(channels=(12, 16), final=96, classes=10),
)
MINI_STREET = replace(MINI_DIGITS, channels=(16, 24, 32), head=Segmentation(classes=8))
MINI_VIDEO = replace(MINI_STREET, head=None)
_MINI = Equilibrium(
    stop=deq.Stop(max_steps=12, tol=None),
    eval_stop=deq.Stop(max_steps=24, tol=1e-3),
    adjoint=deq.Implicit(deq.Broyden(), deq.Stop(max_steps=12, tol=1e-4), on_failure="ignore"),
)

_IMAGENET = _released(26, 27, relative=False)
_CITYSCAPES = _released(27, 30, relative=False)

VARIANTS = {
    "cifar-tiny": Variant(CIFAR_TINY, _released(18, 20, relative=True)),
    "cifar-large": Variant(CIFAR_LARGE, _released(18, 20, relative=True)),
    "cifar-large-reg": Variant(CIFAR_LARGE_REG, _released(8, 7, relative=True)),
    "imagenet-small": Variant(IMAGENET_SMALL, _IMAGENET),
    "imagenet-small-reg": Variant(IMAGENET_SMALL_REG, _released(14, 14, relative=False)),
    "imagenet-large": Variant(IMAGENET_LARGE, _IMAGENET),
    "imagenet-large-reg": Variant(IMAGENET_LARGE_REG, _released(14, 14, relative=False)),
    "imagenet-xl": Variant(IMAGENET_XL, _IMAGENET),
    "cityscapes-small": Variant(CITYSCAPES_SMALL, _CITYSCAPES),
    "cityscapes-large": Variant(CITYSCAPES_LARGE, _CITYSCAPES),
    "cityscapes-xl": Variant(CITYSCAPES_XL, _CITYSCAPES),
    "mini-digits": Variant(MINI_DIGITS, _MINI),
    "mini-street": Variant(MINI_STREET, _MINI),
    "mini-video": Variant(MINI_VIDEO, _MINI),
}
"""All variants by name; those whose `numerics` are "released" are configurations of the release."""
