"""The published data sets and your own set, by name; each is described in the module of its reader.

No published checksums of their files are known. The source of each address is named beside it.
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
