"""Parts of equilibrium models and of their training: the layer, dropout, normalisations, penalties, warm starts."""

from .contraction import contraction as contraction
from .dropout import VariationalDropout as VariationalDropout
from .initial_states import MoveMaps as MoveMaps
from .initial_states import mix_initial_states as mix_initial_states
from .layer import DEQ as DEQ
from .monitor import Monitor as Monitor
from .monitor import summarize as summarize
from .regularize import exponential_weights as exponential_weights
from .regularize import jacobian_frobenius as jacobian_frobenius
from .schedule import RandomSegments as RandomSegments
from .schedule import RandomSteps as RandomSteps
from .schedule import UnrolledWarmUp as UnrolledWarmUp
from .spectral_norm import spectral_norm_ as spectral_norm_
from .spectrum import spectral_radius as spectral_radius
from .stream import Stream as Stream
from .stream import warm_start as warm_start
from .weight_norm import weight_norm_ as weight_norm_
