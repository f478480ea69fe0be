# Table of contents. Rules schedule the stages of dvc.yaml, where commands, code and parameters are written, one job a
# stage; docs/reproducibility.md tells how the two agree. Numbers are in params.yaml.


report: "workflows/report/workflow.rst"


include: "workflows/common.smk"
include: "workflows/flow.smk"
include: "workflows/sequence.smk"
include: "workflows/vision.smk"
include: "workflows/stability.smk"
include: "workflows/delta.smk"


rule all:
    default_target: True
    input:
        rules.flow.input,
        rules.sequence.input,
        rules.vision.input,
        rules.stability.input,
        rules.delta.input,
