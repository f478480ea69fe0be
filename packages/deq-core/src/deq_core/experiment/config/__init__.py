"""Sections of params.yaml as frozen dataclasses, read strictly."""

from deq_core.experiment.config.loading import Budget as Budget
from deq_core.experiment.config.loading import ConfigError as ConfigError
from deq_core.experiment.config.loading import Kind as Kind
from deq_core.experiment.config.loading import Name as Name
from deq_core.experiment.config.loading import Names as Names
from deq_core.experiment.config.loading import Once as Once
from deq_core.experiment.config.loading import Seed as Seed
from deq_core.experiment.config.loading import Seeds as Seeds
from deq_core.experiment.config.loading import changed as changed
from deq_core.experiment.config.loading import check as check
from deq_core.experiment.config.loading import check_options as check_options
from deq_core.experiment.config.loading import load as load
from deq_core.experiment.config.loading import of_words as of_words
from deq_core.experiment.config.loading import one_of as one_of
from deq_core.experiment.config.loading import profile_read as profile_read
from deq_core.experiment.config.loading import require_keys as require_keys
from deq_core.experiment.config.loading import schema as schema
from deq_core.experiment.config.loading import sections_read as sections_read
from deq_core.experiment.config.values import Scalar as Scalar
from deq_core.experiment.config.values import flatten as flatten
from deq_core.experiment.config.values import plain as plain
