"""Multiscale deep equilibrium models for classification, segmentation and detection."""

from .config import Architecture as Architecture
from .config import Classification as Classification
from .config import Detection as Detection
from .config import Equilibrium as Equilibrium
from .config import ModelConfig as ModelConfig
from .config import Segmentation as Segmentation
from .loss import classification_loss as classification_loss
from .loss import segmentation_loss as segmentation_loss
from .models import MDEQ as MDEQ
from .models import NAMES as NAMES
from .models import VisionOutput as VisionOutput
from .models import build as build
from .models import load as load
from .models import load_released as load_released
from .models import save as save
from .models.variants import VARIANTS as VARIANTS
