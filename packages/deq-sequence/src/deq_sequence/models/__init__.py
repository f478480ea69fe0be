"""The DEQ-Transformer and its parts."""

from .build import NAMES as NAMES
from .build import build as build
from .transformer import DEQTransformer as DEQTransformer
from .transformer import Memory as Memory
from .transformer import SequenceOutput as SequenceOutput
