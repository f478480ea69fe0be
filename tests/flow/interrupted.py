"""A training that ends early, as if it had been killed."""

from collections.abc import Mapping


class Interrupted(Exception):
    """The end of such a training."""


class Interrupt:
    """A log that ends the training at one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, values: Mapping[str, float], step: int = 0) -> None:
        if step == self.step:
            raise Interrupted
