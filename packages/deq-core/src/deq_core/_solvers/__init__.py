"""Solvers: update rules that never call f."""

from .anderson import Anderson as Anderson
from .base import Solver as Solver
from .broyden import Broyden as Broyden
from .fixed_point_iteration import FixedPointIteration as FixedPointIteration
from .gmres import GMRES as GMRES
from .gmres import ConjugateResidual as ConjugateResidual
from .line_search import Armijo as Armijo
from .line_search_broyden import LineSearchBroyden as LineSearchBroyden
from .safeguarded import Safeguarded as Safeguarded
from .type_one_anderson import TypeOneAnderson as TypeOneAnderson
