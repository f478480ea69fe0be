"""The published corpora by name, each described in the module of its reader."""

from deq_core.experiment.data.registry import Registry
from deq_sequence.data import wikitext

REGISTRY = Registry(program="deq-sequence", sets=wikitext.SETS, unit="lines")
