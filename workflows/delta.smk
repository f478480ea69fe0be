# The delta rule on equilibrium solves: flow networks, a fitted sine, images. Each rule runs the stage of dvc.yaml that has
# its name. The trained flow networks are those of flow.smk.

DELTA = PROFILE["delta"]
DELTA_STAGE = DELTA["stage"]  # of the flow networks' training
DELTA_NETWORKS = expand("{method}-{seed}", method=DELTA["methods"], seed=DELTA["method_seeds"])
DELTA_SINES = expand("{fit}-{seed}", fit=DELTA["sine"], seed=DELTA["seeds"])
DELTA_IMAGES = expand("{name}-{seed}", name=DELTA["representations"], seed=DELTA["seeds"])
DELTA_FOLDERS = [
    *expand("sweep/{run}", run=[*DELTA_NETWORKS, *DELTA["shipped"]]),
    *expand("convergence/{run}", run=[*DELTA_NETWORKS, *DELTA["shipped"]]),
    *expand("sine/{run}", run=DELTA_SINES),
    *expand("inr/{run}", run=DELTA_IMAGES),
]
DELTA_FIGURES = [
    "flow_tradeoff",
    "flow_release",
    "flow_activity",
    "flow_maps",
    "flow_convergence",
    "flow_settling",
    "sine",
    "inr",
    "inr_images",
]


rule delta:
    input:
        "results/delta/report.md",
        "results/delta/metrics.json",


rule delta_sweep:
    input:
        "data/flow/manifest.json",
        f"results/flow/{DELTA_STAGE}/{{run}}/model.safetensors",
        f"results/flow/{DELTA_STAGE}/{{run}}/config.json",
    output:
        "results/delta/sweep/{run}/sweep.csv",
        "results/delta/sweep/{run}/samples.csv",
        "results/delta/sweep/{run}/layers.csv",
        "results/delta/sweep/{run}/evaluations.csv",
        "results/delta/sweep/{run}/maps.npz",
        "results/delta/sweep/{run}/metrics.json",
    log:
        "results/logs/delta_sweep/{run}.log",
    wildcard_constraints:
        run=TRAINED,
    threads: lambda wildcards: DELTA["sweep"][wildcards.run.rpartition("-")[0]].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item delta_sweep@{wildcards.run:q} > {log:q} 2>&1"


rule delta_sweep_shipped:
    input:
        "data/flow/manifest.json",
    output:
        "results/delta/sweep/{shipped}/sweep.csv",
        "results/delta/sweep/{shipped}/samples.csv",
        "results/delta/sweep/{shipped}/layers.csv",
        "results/delta/sweep/{shipped}/evaluations.csv",
        "results/delta/sweep/{shipped}/maps.npz",
        "results/delta/sweep/{shipped}/metrics.json",
    log:
        "results/logs/delta_sweep_shipped/{shipped}.log",
    wildcard_constraints:
        shipped=SHIPPED,
    threads: lambda wildcards: DELTA["sweep"][wildcards.shipped].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item delta_sweep_shipped@{wildcards.shipped:q} > {log:q} 2>&1"


rule delta_convergence:
    input:
        "data/flow/manifest.json",
        f"results/flow/{DELTA_STAGE}/{{run}}/model.safetensors",
        f"results/flow/{DELTA_STAGE}/{{run}}/config.json",
    output:
        "results/delta/convergence/{run}/distribution.csv",
        "results/delta/convergence/{run}/histogram.csv",
        "results/delta/convergence/{run}/components.csv",
        "results/delta/convergence/{run}/steps.csv",
        "results/delta/convergence/{run}/maps.npz",
        "results/delta/convergence/{run}/metrics.json",
    log:
        "results/logs/delta_convergence/{run}.log",
    wildcard_constraints:
        run=TRAINED,
    threads: lambda wildcards: DELTA["convergence"][wildcards.run.rpartition("-")[0]].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item delta_convergence@{wildcards.run:q} > {log:q} 2>&1"


rule delta_convergence_shipped:
    input:
        "data/flow/manifest.json",
    output:
        "results/delta/convergence/{shipped}/distribution.csv",
        "results/delta/convergence/{shipped}/histogram.csv",
        "results/delta/convergence/{shipped}/components.csv",
        "results/delta/convergence/{shipped}/steps.csv",
        "results/delta/convergence/{shipped}/maps.npz",
        "results/delta/convergence/{shipped}/metrics.json",
    log:
        "results/logs/delta_convergence_shipped/{shipped}.log",
    wildcard_constraints:
        shipped=SHIPPED,
    threads: lambda wildcards: DELTA["convergence"][wildcards.shipped].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item delta_convergence_shipped@{wildcards.shipped:q} > {log:q} 2>&1"


rule delta_sine:
    input:
        "params.yaml",
    output:
        "results/delta/sine/{run}/model.safetensors",
        "results/delta/sine/{run}/config.json",
        "results/delta/sine/{run}/history.csv",
        "results/delta/sine/{run}/steps.csv",
        "results/delta/sine/{run}/histogram.csv",
        "results/delta/sine/{run}/distribution.csv",
        "results/delta/sine/{run}/components.csv",
        "results/delta/sine/{run}/thresholds.csv",
        "results/delta/sine/{run}/states.npz",
        "results/delta/sine/{run}/metrics.json",
    log:
        "results/logs/delta_sine/{run}.log",
    threads: lambda wildcards: DELTA["sine"][wildcards.run.rpartition("-")[0]].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item delta_sine@{wildcards.run:q} > {log:q} 2>&1"


rule delta_inr:
    input:
        "params.yaml",
    output:
        "results/delta/inr/{run}/model.safetensors",
        "results/delta/inr/{run}/config.json",
        "results/delta/inr/{run}/history.csv",
        "results/delta/inr/{run}/steps.csv",
        "results/delta/inr/{run}/thresholds.csv",
        "results/delta/inr/{run}/evaluations.csv",
        "results/delta/inr/{run}/histogram.csv",
        "results/delta/inr/{run}/distribution.csv",
        "results/delta/inr/{run}/components.csv",
        "results/delta/inr/{run}/images.npz",
        "results/delta/inr/{run}/metrics.json",
    log:
        "results/logs/delta_inr/{run}.log",
    threads: DELTA["images"].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item delta_inr@{wildcards.run:q} > {log:q} 2>&1"


rule delta_plot:
    input:
        expand("results/delta/{folder}/metrics.json", folder=DELTA_FOLDERS),
    output:
        report(
            "results/delta/figures/flow_tradeoff.svg",
            caption="report/delta_flow_tradeoff.rst",
            category="Delta rule",
        ),
        report(
            "results/delta/figures/flow_release.svg",
            caption="report/delta_flow_release.rst",
            category="Delta rule",
        ),
        report(
            "results/delta/figures/flow_activity.svg",
            caption="report/delta_flow_activity.rst",
            category="Delta rule",
        ),
        report(
            "results/delta/figures/flow_maps.svg",
            caption="report/delta_flow_maps.rst",
            category="Delta rule",
        ),
        report(
            "results/delta/figures/flow_convergence.svg",
            caption="report/delta_flow_convergence.rst",
            category="Delta rule",
        ),
        report(
            "results/delta/figures/flow_settling.svg",
            caption="report/delta_flow_settling.rst",
            category="Delta rule",
        ),
        report(
            "results/delta/figures/sine.svg",
            caption="report/delta_sine.rst",
            category="Delta rule",
        ),
        report(
            "results/delta/figures/inr.svg",
            caption="report/delta_inr.rst",
            category="Delta rule",
        ),
        report(
            "results/delta/figures/inr_images.svg",
            caption="report/delta_inr_images.rst",
            category="Delta rule",
        ),
    log:
        "results/logs/delta_plot.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item delta_plot > {log:q} 2>&1"


rule delta_report:
    input:
        expand("results/delta/{folder}/metrics.json", folder=DELTA_FOLDERS),
        expand("results/delta/figures/{figure}.svg", figure=DELTA_FIGURES),
    output:
        "results/delta/report.md",
        "results/delta/metrics.json",
    log:
        "results/logs/delta_report.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item delta_report > {log:q} 2>&1"
