"""Deep equilibrium language models: DEQ-Transformer (Bai et al., NeurIPS 2019)."""

from deq_core.experiment.checkpoints.checkpoint import CheckpointError as CheckpointError

from .config import VARIANTS as VARIANTS
from .config import Architecture as Architecture
from .config import Equilibrium as Equilibrium
from .models import NAMES as NAMES
from .models import DEQTransformer as DEQTransformer
from .models import Memory as Memory
from .models import SequenceOutput as SequenceOutput
from .models import build as build
from .networks import SHIPPED as SHIPPED
from .networks import load as load
from .networks import load_vocabulary as load_vocabulary
from .networks import save as save
