# Classification, segmentation and detection by MDEQ, and StreamDEQ on video, from data to report. Each rule runs the
# stage of dvc.yaml that has its name.

VISION = PROFILE["vision"]
VISION_RECIPES = {name: experiment["recipe"] for name, experiment in VISION["experiments"].items()}
VISION_FRESH = expand("{experiment}-{seed}", experiment=VISION["fresh"], seed=VISION["seeds"])
VISION_CONTINUED = {
    f"{pair['experiment']}-{seed}": {"stage": f"pair{number}-{seed}", "start": f"{pair['start']}-{seed}"}
    for number, pair in enumerate(VISION["continued"])
    for seed in VISION["seeds"]
}
VISION_RUNS = expand("{experiment}-{seed}", experiment=VISION["trained"], seed=VISION["seeds"])
VISION_STREAMS = expand("{experiment}-{seed}", experiment=VISION["streamed"], seed=VISION["seeds"])
VISION_FIGURES = ["learning_curves", "scores", "evaluations", "stream", "stream_frames"]


rule vision:
    input:
        "results/vision/report.md",
        "results/vision/metrics.json",


rule vision_download:
    input:
        "params.yaml",
    output:
        "data/vision/manifest.json",
    log:
        "results/logs/vision_download.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item vision_download > {log:q} 2>&1"


rule vision_baselines:
    input:
        "data/vision/manifest.json",
    output:
        "results/vision/baselines/{experiment}/metrics.json",
    log:
        "results/logs/vision_baselines/{experiment}.log",
    threads: lambda wildcards: VISION["evaluate"][wildcards.experiment].get("threads", 1)
    shell:
        "dvc --wait-for-lock repro --single-item vision_baselines@{wildcards.experiment:q} > {log:q} 2>&1"


rule vision_train:
    input:
        "data/vision/manifest.json",
    output:
        "results/vision/train/{run}/model.safetensors",
        "results/vision/train/{run}/config.json",
        "results/vision/train/{run}/history.csv",
        "results/vision/train/{run}/metrics.json",
    log:
        "results/logs/vision_train/{run}.log",
    wildcard_constraints:
        run=one_of(VISION_FRESH),
    threads: lambda wildcards: threads_of(VISION_RECIPES, wildcards.run)
    shell:
        "dvc --wait-for-lock repro --single-item vision_train@{wildcards.run:q} > {log:q} 2>&1"


rule vision_continue:
    input:
        "data/vision/manifest.json",
        lambda wildcards: f"results/vision/train/{VISION_CONTINUED[wildcards.run]['start']}/model.safetensors",
    output:
        "results/vision/train/{run}/model.safetensors",
        "results/vision/train/{run}/config.json",
        "results/vision/train/{run}/history.csv",
        "results/vision/train/{run}/metrics.json",
    log:
        "results/logs/vision_continue/{run}.log",
    wildcard_constraints:
        run=one_of(VISION_CONTINUED),
    threads: lambda wildcards: threads_of(VISION_RECIPES, wildcards.run)
    params:
        stage=lambda wildcards: VISION_CONTINUED[wildcards.run]["stage"],
    shell:
        "dvc --wait-for-lock repro --single-item vision_continue@{params.stage:q} > {log:q} 2>&1"


rule vision_evaluate:
    input:
        "data/vision/manifest.json",
        "results/vision/train/{run}/model.safetensors",
        "results/vision/train/{run}/config.json",
    output:
        "results/vision/evaluate/{run}/steps.csv",
        "results/vision/evaluate/{run}/metrics.json",
    log:
        "results/logs/vision_evaluate/{run}.log",
    threads: lambda wildcards: threads_of(VISION["evaluate"], wildcards.run)
    shell:
        "dvc --wait-for-lock repro --single-item vision_evaluate@{wildcards.run:q} > {log:q} 2>&1"


rule vision_stream:
    input:
        "data/vision/manifest.json",
        "results/vision/train/{run}/model.safetensors",
        "results/vision/train/{run}/config.json",
    output:
        "results/vision/stream/{run}/summary.csv",
        "results/vision/stream/{run}/frames.csv",
        "results/vision/stream/{run}/videos.csv",
        "results/vision/stream/{run}/metrics.json",
    log:
        "results/logs/vision_stream/{run}.log",
    threads: lambda wildcards: threads_of(VISION["stream"], wildcards.run)
    shell:
        "dvc --wait-for-lock repro --single-item vision_stream@{wildcards.run:q} > {log:q} 2>&1"


rule vision_plot:
    input:
        expand("results/vision/baselines/{experiment}/metrics.json", experiment=VISION["baselines"]),
        expand("results/vision/train/{run}/history.csv", run=VISION_RUNS),
        expand("results/vision/evaluate/{run}/steps.csv", run=VISION_RUNS),
        expand("results/vision/evaluate/{run}/metrics.json", run=VISION_RUNS),
        expand("results/vision/stream/{run}/summary.csv", run=VISION_STREAMS),
        expand("results/vision/stream/{run}/frames.csv", run=VISION_STREAMS),
    output:
        report(
            "results/vision/figures/learning_curves.svg",
            caption="report/vision_learning_curves.rst",
            category="Vision",
        ),
        report(
            "results/vision/figures/scores.svg",
            caption="report/vision_scores.rst",
            category="Vision",
        ),
        report(
            "results/vision/figures/evaluations.svg",
            caption="report/vision_evaluations.rst",
            category="Vision",
        ),
        report(
            "results/vision/figures/stream.svg",
            caption="report/vision_stream.rst",
            category="Vision",
        ),
        report(
            "results/vision/figures/stream_frames.svg",
            caption="report/vision_stream_frames.rst",
            category="Vision",
        ),
    log:
        "results/logs/vision_plot.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item vision_plot > {log:q} 2>&1"


rule vision_report:
    input:
        expand("results/vision/baselines/{experiment}/metrics.json", experiment=VISION["baselines"]),
        expand("results/vision/evaluate/{run}/metrics.json", run=VISION_RUNS),
        expand("results/vision/stream/{run}/summary.csv", run=VISION_STREAMS),
        expand("results/vision/figures/{figure}.svg", figure=VISION_FIGURES),
    output:
        "results/vision/report.md",
        "results/vision/metrics.json",
    log:
        "results/logs/vision_report.log",
    threads: 1
    shell:
        "dvc --wait-for-lock repro --single-item vision_report > {log:q} 2>&1"
