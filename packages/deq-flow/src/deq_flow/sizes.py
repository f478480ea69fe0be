"""Sizes of the flow networks by name, as changes to `BASE`."""

from dataclasses import replace

import deq_core as deq
from deq_flow.config import Architecture, Equilibrium

BASE = Architecture()
TINY = replace(
    BASE,
    features=64,
    hidden=32,
    context=32,
    correlation_widths=(64, 48),
    flow_widths=(32, 16),
    motion=32,
    head=64,
)
LARGE = replace(
    BASE,
    hidden=192,
    context=192,
    correlation_widths=(384, 288),
    flow_widths=(192, 96),
    motion=192,
    head=384,
)
HUGE = replace(
    BASE,
    hidden=256,
    context=256,
    correlation_widths=(512, 384),
    flow_widths=(256, 128),
    motion=256,
    head=512,
)
GIGANTIC = replace(
    BASE,
    hidden=384,
    context=384,
    correlation_widths=(640, 480),
    flow_widths=(320, 160),
    motion=320,
    head=640,
)
SMALL = replace(
    BASE,
    encoder="bottleneck",
    stages=(32, 64, 96),
    features=128,
    context_norm="none",
    hidden=96,
    context=64,
    radius=3,
    correlation_widths=(96,),
    flow_widths=(64, 32),
    motion=82,
    gru="square",
    head=128,
    upsampling="bilinear",
)
# For images of about 64x96 and minutes of training on a CPU. The grid has a quarter of the resolution, because with an
# eighth it learns nothing. It has one block a stage and cosine similarity, because the random features of a deep,
# narrow encoder hardly match, and a short training does not overcome that.
MINI = replace(
    BASE,
    stages=(32, 32, 32),
    blocks=1,
    features=64,
    similarity="cosine",
    hidden=32,
    context=32,
    levels=2,
    radius=3,
    correlation_widths=(48, 32),
    flow_widths=(24, 16),
    motion=32,
    head=48,
    mask=48,
    scale=4,
)
# The size of the shipped checkpoint, for frames of any size and hours of training on a CPU. Grid and similarity are
# those of MINI, for the same reasons, but it is wider, and its windows reach 48 pixels.
COMPACT = replace(
    BASE,
    stages=(32, 48, 64),
    blocks=1,
    features=64,
    similarity="cosine",
    hidden=64,
    context=64,
    levels=3,
    radius=3,
    correlation_widths=(64, 48),
    flow_widths=(32, 16),
    motion=64,
    head=64,
    mask=64,
    scale=4,
)
SIZES = {
    "tiny": TINY,
    "base": BASE,
    "large": LARGE,
    "huge": HUGE,
    "gigantic": GIGANTIC,
    "small": SMALL,
    "mini": MINI,
    "compact": COMPACT,
}
MINI_EQUILIBRIUM = Equilibrium(
    stop=deq.Stop(max_steps=6, tol=None),
    eval_stop=deq.Stop(max_steps=12, tol=None),
    correction=(3,),
)
