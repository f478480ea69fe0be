# Networks trained with N evaluations of f, by the implicit gradient and unrolled, and tested with others. Each rule runs
# the stage of dvc.yaml that has its name.

STABILITY = PROFILE["stability"]
STABILITY_RUNS = expand(
    "{method}-{steps}-{seed}", method=STABILITY["methods"], steps=STABILITY["steps"], seed=STABILITY["seeds"]
)


rule stability:
    input:
        "results/stability/report.md",
        "results/stability/metrics.json",


rule stability_pretrain:
    input:
        "data/vision/manifest.json",
    output:
        "results/stability/pretrain/{seed}/model.safetensors",
        "results/stability/pretrain/{seed}/config.json",
        "results/stability/pretrain/{seed}/history.csv",
        "results/stability/pretrain/{seed}/metrics.json",
    log:
        "results/logs/stability_pretrain/{seed}.log",
    threads: STABILITY["pretraining"].get("threads", 1) * STABILITY["pretraining"].get("processes", 1)
    shell:
        "dvc --wait-for-lock repro --single-item stability_pretrain@{wildcards.seed:q} > {log:q} 2>&1"


rule stability_train:
    input:
        "data/vision/manifest.json",
        lambda wildcards: f"results/stability/pretrain/{wildcards.run.rpartition('-')[2]}/model.safetensors",
    output:
        "results/stability/train/{run}/model.safetensors",
        "results/stability/train/{run}/config.json",
        "results/stability/train/{run}/history.csv",
        "results/stability/train/{run}/metrics.json",
    log:
        "results/logs/stability_train/{run}.log",
    threads: STABILITY["training"].get("threads", 1) * STABILITY["training"].get("processes", 1)
    shell:
        "dvc --wait-for-lock repro --single-item stability_train@{wildcards.run:q} > {log:q} 2>&1"


rule stability_evaluate:
    input:
        "data/vision/manifest.json",
        "results/stability/train/{run}/model.safetensors",
        "results/stability/train/{run}/config.json",
    output:
        "results/stability/evaluate/{run}/steps.csv",
        "results/stability/evaluate/{run}/metrics.json",
    log:
        "results/logs/stability_evaluate/{run}.log",
    threads: STABILITY["measure"].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item stability_evaluate@{wildcards.run:q} > {log:q} 2>&1"


rule stability_plot:
    input:
        expand("results/stability/evaluate/{run}/steps.csv", run=STABILITY_RUNS),
    output:
        report(
            "results/stability/figures/curves.svg",
            caption="report/stability.rst",
            category="Stability",
        ),
    log:
        "results/logs/stability_plot.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item stability_plot > {log:q} 2>&1"


rule stability_report:
    input:
        expand("results/stability/evaluate/{run}/steps.csv", run=STABILITY_RUNS),
        "results/stability/figures/curves.svg",
    output:
        "results/stability/report.md",
        "results/stability/metrics.json",
    log:
        "results/logs/stability_report.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item stability_report > {log:q} 2>&1"
