"""All readers."""

from tests.fuzz import core, flow, sequence, vision, workflows
from tests.fuzz.reader import Reader

READERS: tuple[Reader, ...] = (*core.READERS, *flow.READERS, *vision.READERS, *sequence.READERS, *workflows.READERS)
