"""A small profile of the language models, and its texts, for tests of training and measuring."""

from dataclasses import replace

import deq_core as deq
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig, StopConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Pretraining
from deq_sequence.data.texts import Embedded, Text
from deq_sequence.params import Model, Train
from deq_sequence.studies.perplexity import Evaluate
from deq_sequence.studies.section import Sequence
from deq_sequence.studies.training_costs import SequenceCosts

LAYER = LayerConfig(
    solver=deq.FixedPointIteration(),
    stop=StopConfig(max_steps=3),
    adjoint=ImplicitConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=3)),
)
MODEL = Model(name="mini", layer=LAYER, memory=6)
UNROLLED = replace(MODEL, layer=None, steps=2)
RECIPE = Train(
    text="characters",
    length=8,
    validation_tokens=100,
    steps=6,
    batch_size=4,
    optim=OptimConfig(lr=1e-3),
    pretraining=Pretraining(steps=3, depth=(1, 3)),
    every=Every(checkpoint=1),
)
MEASURE = Evaluate(
    text="characters", length=8, memory=6, batch_size=4, sweep=4, solvers={"plain": deq.FixedPointIteration()}
)
TEXT = Text(corpus=Embedded(), tokens="characters", limit=300)
COSTS = SequenceCosts(
    gradients={"phantom-1": deq.Phantom(), "unrolled": deq.Unrolled()},
    steps=(1, 2),
    solver=deq.FixedPointIteration(),
    repeats=1,
    batch_size=2,
    name="mini",
    length=6,
)
PROFILE = Sequence(
    seeds=(0,),
    methods=("deq", "unrolled"),
    texts={"characters": TEXT},
    model={"deq": MODEL, "unrolled": UNROLLED},
    train={"deq": RECIPE, "unrolled": replace(RECIPE, pretraining=None)},
    evaluate={"deq": MEASURE, "unrolled": MEASURE},
    costs=COSTS,
)
