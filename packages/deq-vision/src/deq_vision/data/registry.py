"""The data sets by name; each is described in the module of its reader."""

from deq_core.experiment.data.registry import Registry
from deq_vision.data.sets import cifar, cityscapes, imagenet, imagenet_vid
from deq_vision.data.sets.own import layout

REGISTRY = Registry(
    program="deq-vision",
    sets={**cifar.SETS, **imagenet.SETS, **cityscapes.SETS, **imagenet_vid.SETS, **layout.SETS},
)
