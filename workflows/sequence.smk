# Language models: DEQ-Transformer and its unrolled form. Each rule runs the stage of dvc.yaml that has its name.

SEQUENCE = PROFILE["sequence"]
SEQUENCE_RUNS = expand("{method}-{seed}", method=SEQUENCE["methods"], seed=SEQUENCE["seeds"])
SEQUENCE_DELTAS = expand("{method}-{seed}", method=SEQUENCE["delta"], seed=SEQUENCE["seeds"])
SEQUENCE_FIGURES = ["learning_curves", "iterations", "bits_per_character"]


rule sequence:
    input:
        "results/sequence/report.md",
        "results/sequence/metrics.json",
        "results/sequence/delta_report/report.md",
        "results/sequence/delta_report/metrics.json",


rule sequence_prepare:
    input:
        "params.yaml",
    output:
        "data/sequence/manifest.json",
    log:
        "results/logs/sequence_prepare.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item sequence_prepare > {log:q} 2>&1"


rule sequence_baselines:
    input:
        "data/sequence/manifest.json",
    output:
        "results/sequence/baselines/orders.csv",
        "results/sequence/baselines/metrics.json",
    log:
        "results/logs/sequence_baselines.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item sequence_baselines > {log:q} 2>&1"


rule sequence_train:
    input:
        "data/sequence/manifest.json",
    output:
        "results/sequence/train/{run}/model.safetensors",
        "results/sequence/train/{run}/config.json",
        "results/sequence/train/{run}/vocabulary.json",
        "results/sequence/train/{run}/history.csv",
        "results/sequence/train/{run}/metrics.json",
    log:
        "results/logs/sequence_train/{run}.log",
    threads: lambda wildcards: threads_of(SEQUENCE["train"], wildcards.run)
    shell:
        "dvc --wait-for-lock repro --single-item sequence_train@{wildcards.run:q} > {log:q} 2>&1"


rule sequence_evaluate:
    input:
        "data/sequence/manifest.json",
        "results/sequence/train/{run}/model.safetensors",
        "results/sequence/train/{run}/config.json",
        "results/sequence/train/{run}/vocabulary.json",
    output:
        "results/sequence/evaluate/{run}/steps.csv",
        "results/sequence/evaluate/{run}/metrics.json",
    log:
        "results/logs/sequence_evaluate/{run}.log",
    threads: lambda wildcards: threads_of(SEQUENCE["evaluate"], wildcards.run)
    shell:
        "dvc --wait-for-lock repro --single-item sequence_evaluate@{wildcards.run:q} > {log:q} 2>&1"


rule sequence_plot:
    input:
        "results/sequence/baselines/orders.csv",
        expand("results/sequence/train/{run}/history.csv", run=SEQUENCE_RUNS),
        expand("results/sequence/evaluate/{run}/steps.csv", run=SEQUENCE_RUNS),
        expand("results/sequence/evaluate/{run}/metrics.json", run=SEQUENCE_RUNS),
    output:
        report(
            "results/sequence/figures/learning_curves.svg",
            caption="report/sequence_learning_curves.rst",
            category="Sequence",
        ),
        report(
            "results/sequence/figures/iterations.svg",
            caption="report/sequence_iterations.rst",
            category="Sequence",
        ),
        report(
            "results/sequence/figures/bits_per_character.svg",
            caption="report/sequence_bits_per_character.rst",
            category="Sequence",
        ),
    log:
        "results/logs/sequence_plot.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item sequence_plot > {log:q} 2>&1"


rule sequence_report:
    input:
        "results/sequence/baselines/orders.csv",
        expand("results/sequence/evaluate/{run}/steps.csv", run=SEQUENCE_RUNS),
        expand("results/sequence/evaluate/{run}/metrics.json", run=SEQUENCE_RUNS),
        expand("results/sequence/figures/{figure}.svg", figure=SEQUENCE_FIGURES),
    output:
        "results/sequence/report.md",
        "results/sequence/metrics.json",
    log:
        "results/logs/sequence_report.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item sequence_report > {log:q} 2>&1"


rule sequence_delta:
    input:
        "data/sequence/manifest.json",
        "results/sequence/train/{run}/model.safetensors",
        "results/sequence/train/{run}/config.json",
        "results/sequence/train/{run}/vocabulary.json",
    output:
        "results/sequence/delta/{run}/sweep.csv",
        "results/sequence/delta/{run}/layers.csv",
        "results/sequence/delta/{run}/evaluations.csv",
        "results/sequence/delta/{run}/metrics.json",
    log:
        "results/logs/sequence_delta/{run}.log",
    threads: lambda wildcards: threads_of(SEQUENCE["delta"], wildcards.run)
    shell:
        "dvc --wait-for-lock repro --single-item sequence_delta@{wildcards.run:q} > {log:q} 2>&1"


rule sequence_delta_report:
    input:
        expand("results/sequence/delta/{run}/sweep.csv", run=SEQUENCE_DELTAS),
    output:
        "results/sequence/delta_report/report.md",
        "results/sequence/delta_report/metrics.json",
        report(
            "results/sequence/delta_report/tradeoff.svg",
            caption="report/sequence_delta.rst",
            category="Sequence",
        ),
    log:
        "results/logs/sequence_delta_report.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item sequence_delta_report > {log:q} 2>&1"
