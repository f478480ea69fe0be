"""Fixed-point solvers for PyTorch and gradients through them."""

from ._adjoint import Adjoint as Adjoint
from ._adjoint import Implicit as Implicit
from ._adjoint import Phantom as Phantom
from ._adjoint import Unrolled as Unrolled
from ._layer import DEQ as DEQ
from ._norms import max_norm as max_norm
from ._norms import rms_norm as rms_norm
from ._norms import two_norm as two_norm
from ._regularize import exponential_weights as exponential_weights
from ._regularize import jacobian_frobenius as jacobian_frobenius
from ._regularize import spectral_radius as spectral_radius
from ._scope import VariationalDropout as VariationalDropout
from ._scope import solve_scope as solve_scope
from ._solution import Solution as Solution
from ._solve import ConvergenceError as ConvergenceError
from ._solve import fixed_point as fixed_point
from ._solver import Anderson as Anderson
from ._solver import Broyden as Broyden
from ._solver import FixedPointIteration as FixedPointIteration
from ._solver import Solver as Solver
from ._stop import Stop as Stop
from ._stream import warm_start as warm_start
from ._weight_norm import weight_norm_ as weight_norm_
