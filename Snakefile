# One rule for each stage of dvc.yaml, which defines commands, code, parameters and files (workflows/engines/graph.py).
# Snakemake schedules; a job lets DVC run and record its stage. docs/reproducibility.md says how the two agree.

from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

from workflows import dvc_state, live, sender
from workflows.engines import cache, graph, parameters, workspace

min_version("9.27")
VIEW, SENDER = [], []  # filled by `onstart`


report: "workflows/report/workflow.rst"


if config:
    raise WorkflowError(
        f"--config and --configfile are not used here (got {', '.join(config)}): DVC would not know of them. "
        "Edit params.yaml, or use `dvc exp run --set-param KEY=VALUE`."
    )
try:
    PROFILE = parameters.load()
    # Only the main process changes dates: cluster jobs read the Snakefile again, while others write their outputs.
    if workflow.is_main_process:
        SHOWN = dvc_state.show_to_snakemake()  # first, since it repairs files without which DVC cannot give the graph
    RULES = graph.rules(PROFILE)
except (
    parameters.ParameterError,
    graph.GraphError,
    dvc_state.StateError,
    cache.CacheError,
    workspace.WorkspaceError,
) as error:
    raise WorkflowError(str(error)) from None


onstart:
    try:
        workspace.claim()
        dvc_state.require_shown(SHOWN)
    except (workspace.WorkspaceError, dvc_state.StateError) as error:
        raise WorkflowError(str(error)) from None
    SENDER.append(sender.start())
    live.wake_for_news_alone(workflow.scheduler)
    if not workflow.touch:  # a job that is only touched has no time of its own
        VIEW.append(live.follow(logger, workflow.dag.needrun_jobs(), workflow.scheduler))


onsuccess:
    sender.stop(SENDER[0])
    for view in VIEW:
        view.end(good=True, every=live.jobs_of(RULES), budgets=live.budgets_of(PROFILE))


onerror:
    for process in SENDER:
        sender.stop(process)
    for view in VIEW:
        view.end(good=False)


resource_scopes:
    gpu_jobs="local",  # profiles/default allows one at a time on this machine; a cluster counts its GPUs itself


def described(path):
    """The output, marked for the report if it has a caption, as figures do."""
    caption = graph.caption(path)
    if not Path(caption).exists():
        return path
    return report(path, caption=str(caption), category=Path(path).parts[1].capitalize())


rule all:
    default_target: True
    input:
        graph.final(RULES),


for pipeline in dict.fromkeys(each.pipeline for each in RULES):

    rule:
        name:
            pipeline
        input:
            graph.final(RULES, pipeline),


for each in RULES:

    rule:
        name:
            each.name
        input:
            lambda wildcards, each=each: each.job(wildcards).inputs,
        output:
            [described(path) for path in each.outputs],
        log:
            each.log,
        wildcard_constraints:
            run=each.runs,
        threads: lambda wildcards, each=each: each.job(wildcards).asks.threads
        resources:
            gpu=lambda wildcards, each=each: each.job(wildcards).asks.gpu,
            gpu_jobs=lambda wildcards, each=each: min(1, each.job(wildcards).asks.gpu),
            mem_mb=lambda wildcards, attempt, each=each: attempt * each.job(wildcards).asks.mem_mb,
            runtime=lambda wildcards, each=each: each.job(wildcards).asks.runtime,
        params:
            stage=lambda wildcards, each=each: each.job(wildcards).stage,
        shell:
            "python -m workflows.dvc_lock --wait-for-lock repro --single-item {params.stage:q} > {log:q} 2>&1"
