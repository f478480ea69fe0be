"""Fixed-point solvers for PyTorch, and gradients through them.

`nn` has layers and training aids, `delta` the delta rule, `compat` the configurations and numerics of other codebases.
An option out of its range raises ValueError when the object is made.
"""

from . import compat as compat
from . import delta as delta
from . import nn as nn
from ._adjoints.base import Adjoint as Adjoint
from ._adjoints.implicit import Implicit as Implicit
from ._adjoints.jacobian_free import JacobianFree as JacobianFree
from ._adjoints.phantom import Phantom as Phantom
from ._adjoints.reversible import Reversible as Reversible
from ._adjoints.shine import SHINE as SHINE
from ._adjoints.truncated import Truncated as Truncated
from ._adjoints.unrolled import Unrolled as Unrolled
from ._scope.recomputed import checkpoint_contexts as checkpoint_contexts
from ._scope.scope import solve_scope as solve_scope
from ._scope.weights import cached_weights as cached_weights
from ._solve.failure import ConvergenceError as ConvergenceError
from ._solve.failure import ConvergenceWarning as ConvergenceWarning
from ._solve.fixed_point import fixed_point as fixed_point
from ._solve.norms import max_norm as max_norm
from ._solve.norms import rms_norm as rms_norm
from ._solve.norms import two_norm as two_norm
from ._solve.outcome import Outcome as Outcome
from ._solve.parts import Part as Part
from ._solve.parts import part_residuals as part_residuals
from ._solve.solution import Solution as Solution
from ._solve.stop import Stop as Stop
from ._solvers import GMRES as GMRES
from ._solvers import Anderson as Anderson
from ._solvers import Armijo as Armijo
from ._solvers import Broyden as Broyden
from ._solvers import ConjugateResidual as ConjugateResidual
from ._solvers import FixedPointIteration as FixedPointIteration
from ._solvers import LineSearchBroyden as LineSearchBroyden
from ._solvers import Safeguarded as Safeguarded
from ._solvers import Solver as Solver
from ._solvers import TypeOneAnderson as TypeOneAnderson
