"""What equilibrium models are built and trained with: the layer, dropout, normalisations, penalties, warm starts."""

from .dropout import VariationalDropout as VariationalDropout
from .layer import DEQ as DEQ
from .monitor import Monitor as Monitor
from .monitor import summarize as summarize
from .regularize import exponential_weights as exponential_weights
from .regularize import jacobian_frobenius as jacobian_frobenius
from .regularize import spectral_radius as spectral_radius
from .schedule import RandomSteps as RandomSteps
from .schedule import UnrolledWarmUp as UnrolledWarmUp
from .spectral_norm import spectral_norm_ as spectral_norm_
from .stream import Stream as Stream
from .stream import warm_start as warm_start
from .weight_norm import weight_norm_ as weight_norm_
