# Shared by the rules of every pipeline: the checked parameters, and the state that Snakemake and DVC have in common.

import re

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from workflows import cache, dvc_state, parameters, workspace

min_version("9.27")

if config:
    raise WorkflowError(
        f"--config and --configfile are not used here (got {', '.join(config)}): DVC would not know of them. "
        "Edit params.yaml, or use `dvc exp run --set-param KEY=VALUE`."
    )
try:
    PROFILE = parameters.load()
    # A cluster job reads the Snakefile again, while others write their outputs: only the main process touches dates.
    if workflow.is_main_process:
        dvc_state.show_to_snakemake()
except (parameters.ParameterError, dvc_state.StateError, cache.CacheError) as error:
    raise WorkflowError(str(error)) from None


def threads_of(recipes, run):
    """Threads of a job by its recipe or settings; the run is called method-seed."""
    recipe = recipes[run.rpartition("-")[0]]
    return recipe.get("threads", 1) * recipe.get("processes", 1)


def one_of(runs):
    """A pattern that these names match and no others."""
    return "|".join(map(re.escape, runs)) or "(?!)"


# Folders of results are called by the run, or by the checkpoint where it comes with the package and has no seed.
PLAIN = "[A-Za-z0-9_-]+"  # names are, by the schemas; what is asked for on the command line is to be, too
TRAINED = rf"{PLAIN}-\d+"
SHIPPED = rf"(?!{PLAIN}-\d+/){PLAIN}"


wildcard_constraints:
    run=PLAIN,
    experiment=PLAIN,
    seed=r"\d+",


onstart:
    try:
        workspace.claim()
    except workspace.WorkspaceBusyError as error:
        raise WorkflowError(str(error)) from None
