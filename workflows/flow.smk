# Optical flow: DEQ-Flow and RAFT from data to report. Each rule runs the stage of dvc.yaml that has its name.

FLOW = PROFILE["flow"]
FLOW_RUNS = expand("{method}-{seed}", method=FLOW["methods"], seed=FLOW["seeds"])
FLOW_BEFORE = {"things": "train", "sintel": "things", "kitti": "sintel"}  # the stages of the curriculum
FLOW_FIGURES = ["learning_curves", "epe", "iterations", "example", "reuse"]
FLOW_REUSED = [
    *expand("{method}-{seed}", method=FLOW["reuse"]["methods"], seed=FLOW["seeds"]),
    *FLOW["reuse"]["shipped"],
]
FLOW_FOLLOWED = [
    f"{stage}/{method}-{seed}"
    for stage in FLOW_BEFORE
    for method in FLOW["curriculum"][stage]["methods"]
    for seed in FLOW["seeds"]
]


rule flow:
    input:
        "results/flow/report.md",
        "results/flow/metrics.json",


rule flow_download:
    input:
        "params.yaml",
    output:
        "data/flow/manifest.json",
    log:
        "results/logs/flow_download.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item flow_download > {log:q} 2>&1"


rule flow_train:
    input:
        "data/flow/manifest.json",
    output:
        "results/flow/train/{run}/model.safetensors",
        "results/flow/train/{run}/config.json",
        "results/flow/train/{run}/history.csv",
        "results/flow/train/{run}/metrics.json",
    log:
        "results/logs/flow_train/{run}.log",
    threads: lambda wildcards: threads_of(FLOW["train"], wildcards.run)
    shell:
        "dvc --wait-for-lock repro --single-item flow_train@{wildcards.run:q} > {log:q} 2>&1"


rule flow_curriculum:
    input:
        "data/flow/manifest.json",
        lambda wildcards: f"results/flow/{FLOW_BEFORE[wildcards.stage]}/{wildcards.run}/model.safetensors",
    output:
        "results/flow/{stage}/{run}/model.safetensors",
        "results/flow/{stage}/{run}/config.json",
        "results/flow/{stage}/{run}/history.csv",
        "results/flow/{stage}/{run}/metrics.json",
    log:
        "results/logs/flow_{stage}/{run}.log",
    wildcard_constraints:
        stage="|".join(FLOW_BEFORE),
    threads: lambda wildcards: threads_of(FLOW["curriculum"][wildcards.stage]["train"], wildcards.run)
    shell:
        "dvc --wait-for-lock repro --single-item flow_{wildcards.stage:q}@{wildcards.run:q} > {log:q} 2>&1"


rule flow_evaluate:
    input:
        "data/flow/manifest.json",
        "results/flow/train/{run}/model.safetensors",
        "results/flow/train/{run}/config.json",
    output:
        "results/flow/evaluate/{run}/samples.csv",
        "results/flow/evaluate/{run}/steps.csv",
        "results/flow/evaluate/{run}/metrics.json",
        "results/flow/evaluate/{run}/example.npz",
    log:
        "results/logs/flow_evaluate/{run}.log",
    threads: FLOW["evaluate"].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item flow_evaluate@{wildcards.run:q} > {log:q} 2>&1"


rule flow_evaluate_curriculum:
    input:
        "data/flow/manifest.json",
        "results/flow/{stage}/{run}/model.safetensors",
        "results/flow/{stage}/{run}/config.json",
    output:
        "results/flow/evaluate_{stage}/{run}/samples.csv",
        "results/flow/evaluate_{stage}/{run}/steps.csv",
        "results/flow/evaluate_{stage}/{run}/metrics.json",
        "results/flow/evaluate_{stage}/{run}/example.npz",
    log:
        "results/logs/flow_evaluate_{stage}/{run}.log",
    wildcard_constraints:
        stage="|".join(FLOW_BEFORE),
    threads: FLOW["evaluate"].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item flow_evaluate_{wildcards.stage:q}@{wildcards.run:q} > {log:q} 2>&1"


rule flow_reuse:
    input:
        "data/flow/manifest.json",
        "results/flow/train/{run}/model.safetensors",
        "results/flow/train/{run}/config.json",
    output:
        "results/flow/reuse/{run}/frames.csv",
        "results/flow/reuse/{run}/sequences.csv",
        "results/flow/reuse/{run}/metrics.json",
    log:
        "results/logs/flow_reuse/{run}.log",
    wildcard_constraints:
        run=TRAINED,
    threads: FLOW["reuse"].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item flow_reuse@{wildcards.run:q} > {log:q} 2>&1"


rule flow_reuse_shipped:
    input:
        "data/flow/manifest.json",
    output:
        "results/flow/reuse/{shipped}/frames.csv",
        "results/flow/reuse/{shipped}/sequences.csv",
        "results/flow/reuse/{shipped}/metrics.json",
    log:
        "results/logs/flow_reuse_shipped/{shipped}.log",
    wildcard_constraints:
        shipped=SHIPPED,
    threads: FLOW["reuse"].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item flow_reuse_shipped@{wildcards.shipped:q} > {log:q} 2>&1"


rule flow_baselines:
    input:
        "data/flow/manifest.json",
    output:
        "results/flow/baselines/samples.csv",
        "results/flow/baselines/metrics.json",
    log:
        "results/logs/flow_baselines.log",
    threads: FLOW["evaluate"].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item flow_baselines > {log:q} 2>&1"


rule flow_plot:
    input:
        expand("results/flow/train/{run}/history.csv", run=FLOW_RUNS),
        expand("results/flow/evaluate/{run}/samples.csv", run=FLOW_RUNS),
        expand("results/flow/evaluate/{run}/steps.csv", run=FLOW_RUNS),
        expand("results/flow/evaluate/{run}/example.npz", run=FLOW_RUNS),
        "results/flow/baselines/samples.csv",
        expand("results/flow/reuse/{run}/frames.csv", run=FLOW_REUSED),
    output:
        report(
            "results/flow/figures/learning_curves.svg",
            caption="report/flow_learning_curves.rst",
            category="Flow",
        ),
        report(
            "results/flow/figures/epe.svg",
            caption="report/flow_epe.rst",
            category="Flow",
        ),
        report(
            "results/flow/figures/iterations.svg",
            caption="report/flow_iterations.rst",
            category="Flow",
        ),
        report(
            "results/flow/figures/example.svg",
            caption="report/flow_example.rst",
            category="Flow",
        ),
        report(
            "results/flow/figures/reuse.svg",
            caption="report/flow_reuse.rst",
            category="Flow",
        ),
    log:
        "results/logs/flow_plot.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item flow_plot > {log:q} 2>&1"


rule flow_report:
    input:
        expand("results/flow/evaluate/{run}/samples.csv", run=FLOW_RUNS),
        expand("results/flow/evaluate_{place}/samples.csv", place=FLOW_FOLLOWED),
        expand("results/flow/reuse/{run}/metrics.json", run=FLOW_REUSED),
        "results/flow/baselines/samples.csv",
        expand("results/flow/figures/{figure}.svg", figure=FLOW_FIGURES),
    output:
        "results/flow/report.md",
        "results/flow/metrics.json",
    log:
        "results/logs/flow_report.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item flow_report > {log:q} 2>&1"
