"""Inference with a trained network: solver, stop, iterations, scales, precision and padding."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from deq_flow.inference_params import Inference
from deq_flow.models import RAFT, DEQFlow, FlowOutput
from deq_flow.models.network import State, check_shapes
from deq_flow.models.padding import Padding
from deq_flow.models.scales import coarse_to_fine

PaddingMode = Literal["centre", "bottom"]
"""Sides on which frames are padded to a multiple of a network's scale; see `models.padding.Padding`."""

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Estimator:
    """Estimates flow with a trained network, over its scales, without gradients, on the network's device.

    The network that is passed is not changed.

    Args:
        network: network in evaluation mode.
        choice: options of inference.
        padding: padding of the frames.

    Attributes:
        network: copy of the network with the options of inference; it shares the weights.
        padding: as above.
        precision: dtype of autocast; None if everything is computed in float32.
        steps: maximum number of iterations at each scale.
        tolerance: residual at which a solve ends; None if only the number of iterations ends it.

    Raises:
        ValueError: the network is in training mode.
    """

    def __init__(
        self,
        network: DEQFlow | RAFT,
        choice: Inference | None = None,
        *,
        padding: PaddingMode = "centre",
    ) -> None:
        if network.training:
            raise ValueError("the network must be in evaluation mode: call eval() on it")
        choice = choice or Inference()
        self.network = copy.copy(network)  # shares the weights
        if choice.scales is not None:
            self.network.scales = None if choice.scales == "one" else choice.scales
        self.padding: PaddingMode = padding
        self.precision = PRECISIONS.get(choice.precision)
        if isinstance(self.network, DEQFlow):
            own = self.network.equilibrium
            stop = own.eval_stop or own.stop if choice.stop is None else choice.stop.build()
            self.network.equilibrium = replace(own, solver=choice.solver or own.solver, eval_stop=stop)
            self.steps, self.tolerance = stop.max_steps, stop.tol
        else:
            self.steps, self.tolerance = choice.steps or self.network.eval_steps, None
            self.network.eval_steps = self.steps

    @torch.no_grad()
    def __call__(
        self,
        image1: Tensor,
        image2: Tensor,
        states: Sequence[State] | None = None,
        *,
        steps: int | None = None,
        record: Sequence[int] = (),
    ) -> FlowOutput:
        """Flow between images (b, 3, h, w) of values 0 to 255; `flow` is float32 (b, 2, h, w) in pixels.

        Args:
            image1, image2: images on any device, at least 16 pixels high and wide.
            states: initial state of each scale, as in `FlowOutput.states`; zeros by default, and if they do not fit
                these images.
            steps: maximum number of iterations at the finest scale, in place of the configured one.
            record: iterations of the finest scale whose flow is returned in `flows`, before the last one.

        Raises:
            TypeError, ValueError: as in `models.scales.coarse_to_fine`.
        """
        check_shapes(image1, image2)
        device = self.network.fnet.conv1.weight.device
        padding = Padding(image1.shape[2], image1.shape[3], self.network.size.scale, self.padding)
        first, second = (padding.pad(image.to(device, torch.float32)) for image in (image1, image2))
        with torch.autocast(device.type, self.precision, enabled=self.precision is not None):
            output = coarse_to_fine(
                self.network, first, second, states, scales=self.network.scales, steps=steps, record=tuple(record)
            )
        flows = tuple(padding.crop(flow).float() for flow in output.flows)
        return replace(output, flow=flows[-1], flows=flows)
