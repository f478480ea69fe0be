"""Multiscale equilibrium models, built by name or loaded from files."""

from .build import NAMES as NAMES
from .build import build as build
from .build import load as load
from .build import model_config as model_config
from .build import save as save
from .compat.convert import load_released as load_released
from .mdeq import MDEQ as MDEQ
from .mdeq import VisionOutput as VisionOutput
