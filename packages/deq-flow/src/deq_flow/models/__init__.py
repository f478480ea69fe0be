"""DEQ-Flow, RAFT and GMA from one set of parts."""

from deq_core.experiment.checkpoints.checkpoint import CheckpointError as CheckpointError

from .build import NAMES as NAMES
from .build import build as build
from .deq_flow import DEQFlow as DEQFlow
from .network import FlowOutput as FlowOutput
from .raft import RAFT as RAFT
