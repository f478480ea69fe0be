"""The checkpoint that comes with the package; its CARD.md says how it was made and what it reaches.

`networks` is told of it here, so that what the pipeline has trained does not depend on what is shipped.
"""

from pathlib import Path

from deq_sequence.networks import SHIPPED as SHIPPED

FOLDER = Path(__file__).parent / "checkpoints"

SHIPPED["default"] = FOLDER / "default"
