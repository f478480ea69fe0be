"""Optical flow with deep equilibrium models."""

from .config import BASE as BASE
from .config import GIGANTIC as GIGANTIC
from .config import HUGE as HUGE
from .config import LARGE as LARGE
from .config import MINI as MINI
from .config import SMALL as SMALL
from .config import TINY as TINY
from .config import Architecture as Architecture
from .config import Equilibrium as Equilibrium
from .loss import sequence_loss as sequence_loss
from .models import NAMES as NAMES
from .models import RAFT as RAFT
from .models import DEQFlow as DEQFlow
from .models import FlowOutput as FlowOutput
from .models import build as build
