"""The published data sets by name, and a set of one's own; each is described in the module of its reader.

No checksum of their files is known to be published. Each address is from the documentation or script named beside it.
"""

from collections.abc import Mapping

from deq_core.experiment.data.registry import Registry
from deq_flow.data.published import FlowSet
from deq_flow.data.sets import chairs, hd1k, kitti, own, sintel, spring, things

SETS: Mapping[str, FlowSet] = {
    **chairs.SETS,
    **things.SETS,
    **sintel.SETS,
    **kitti.SETS,
    **hd1k.SETS,
    **spring.SETS,
    **own.SETS,
}
REGISTRY = Registry(program="deq-flow", sets=SETS, unit="pairs")
