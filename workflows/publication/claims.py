"""What papers claim about the subject of each report, with its source and the function that says what a run shows.

The numbers of papers are for full-size networks and data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deq_flow.reports.paths import UNIT as FLOW
from deq_sequence.reports.paths import UNIT as SEQUENCE
from deq_vision.reports.paths import UNIT as VISION
from workflows.publication import findings


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, to compare with a run."""

    says: str
    """The claim, Markdown."""
    source: str
    """Its source, Markdown."""
    shows: Callable[[findings.Values], str]
    """Function of metrics.json of the report: what the run shows, Markdown."""


DEQ_FLOW = "https://arxiv.org/abs/2204.08442"
DEQ_FLOW_RELEASE = "https://github.com/locuslab/deq-flow"
DELTA = "[Wang et al., NeurIPS 2024, abstract](https://openreview.net/forum?id=7qBkADV4zD)"
PATHS = "[Anil et al., NeurIPS 2022, abstract](https://arxiv.org/abs/2211.09961)"
INDEPENDENCE = (
    "The performance of equilibrium models on harder examples strongly correlates with path independence: with enough "
    "computation, they converge to the same steady state from any initialisation."
)

CONSTANT = (
    "Training equilibrium networks needs only constant memory, whatever their effective depth.",
    "[Bai et al., NeurIPS 2019, abstract](https://arxiv.org/abs/1909.01377)",
)

CLAIMS = {
    "flow": Claim(
        "With the same size and schedule, DEQ-Flow is more accurate than RAFT: 1.27 px on Sintel clean, 2.58 on final, "
        "3.76 on KITTI with F1-all 12.95 % (DEQ-Flow-H-1x), against 1.36, 2.59, 4.47 and 16.16 % (RAFT-H-1x).",
        f"[deq-flow, README, version 2.0, benchmarked checkpoints]({DEQ_FLOW_RELEASE})",
        findings.flow,
    ),
    "flow_curriculum": Claim(
        "Trained with the schedules C+T and C+T+S+K+H, DEQ-Flow-H should have an error below 1.40 px on Sintel clean, "
        "around 2.60 px on final, and around 4.00 px and 13.6 % on KITTI.",
        f"[deq-flow, README, version 1.0, training]({DEQ_FLOW_RELEASE})",
        findings.curriculum,
    ),
    "flow_reuse": Claim(
        "Fixed-point reuse is one of the techniques that make flow estimation faster.",
        f"[Bai et al., CVPR 2022, abstract]({DEQ_FLOW})",
        findings.reuse,
    ),
    "flow_paths": Claim(
        "A DEQ flow estimator models the flow as a path-independent, infinite-level fixed-point solving process.",
        f"[deq-flow, README]({DEQ_FLOW_RELEASE})",
        partial(findings.paths, FLOW),
    ),
    "flow_gradients": Claim(
        "Inexact gradients are one of the techniques that make flow estimation faster, and a sparse fixed-point "
        "correction stabilises DEQ flow estimators.",
        f"[Bai et al., CVPR 2022, abstract]({DEQ_FLOW})",
        findings.gradients,
    ),
    "flow_training_costs": Claim(
        "A DEQ flow estimator is differentiated analytically at its fixed point and so needs O(1) training memory.",
        f"[Bai et al., CVPR 2022, abstract]({DEQ_FLOW})",
        findings.training_costs,
    ),
    "sequence": Claim(
        "On WikiText-103, DEQs often improve on the sequence models that they are based on, with similar numbers of "
        "parameters, similar computation, and up to 88 % less memory in training.",
        "[Bai et al., NeurIPS 2019, abstract](https://arxiv.org/abs/1909.01377)",
        findings.sequence,
    ),
    "sequence_delta_report": Claim(
        "The paper reports savings for implicit neural representations and optical flow, and none for language models.",
        DELTA,
        findings.sequence_delta,
    ),
    "sequence_training_costs": Claim(*CONSTANT, findings.training_costs),
    "sequence_paths": Claim(INDEPENDENCE, PATHS, partial(findings.paths, SEQUENCE)),
    "vision": Claim(
        "On ImageNet classification and Cityscapes segmentation, MDEQs match or exceed recent competitive models.",
        "[Bai et al., NeurIPS 2020, abstract](https://arxiv.org/abs/2006.08656)",
        findings.vision,
    ),
    "vision_streaming_report": Claim(
        "StreamDEQ recovers near-optimal representations within a few frames and keeps them up to date over the video, "
        "with accuracy on par with MDEQ's while being more than 3 times faster.",
        "[Ertenli et al., ECCV 2022, abstract](https://arxiv.org/abs/2204.13492)",
        findings.streaming,
    ),
    "vision_training_costs": Claim(*CONSTANT, findings.training_costs),
    "vision_paths": Claim(INDEPENDENCE, PATHS, partial(findings.paths, VISION)),
    "stability": Claim(
        "More iterations at inference than in training cannot help overparametrised networks. DEQs, which usually are "
        "overparametrised, do not benefit from them. Figures 6 and 7 show the training set and the loss.",
        "[Ramzi et al., 2023, abstract and figures 5 to 7](https://arxiv.org/abs/2305.15042)",
        findings.stability,
    ),
    "stability_paths": Claim(INDEPENDENCE, PATHS, partial(findings.paths, VISION)),
    "delta_sweep": Claim(
        "The delta rule cuts the FLOPs of optical flow by 73 % on Sintel and by 76 % on KITTI, at accuracy comparable "
        "with full updates.",
        DELTA,
        findings.delta,
    ),
    "delta_convergence": Claim(
        "Convergence is heterogeneous: activations converge much faster in some dimensions of the state.",
        DELTA,
        findings.settling,
    ),
    "delta_sine": Claim(
        "A network fitted to a sine demonstrates heterogeneous convergence in a simple case.",
        "README of DeltaDEQ's release",
        findings.settling,
    ),
    "delta_inr": Claim(
        "The delta rule cuts the FLOPs of an implicit neural representation by 84 %, at accuracy comparable with full "
        "updates.",
        DELTA,
        findings.delta,
    ),
}
"""Claims by the name of the report (`workflows.publish.REPORTS`)."""
