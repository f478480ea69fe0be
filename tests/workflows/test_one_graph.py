"""Snakemake's rules and DVC's stages are one graph, and the comparison notices when they are not."""

from pathlib import Path

import pytest
from tests.workflows.checkout import copy, edit, set_parameters
from tests.workflows.graphs import Job, differences, dvc_graph, snakemake_graph

RULES, VISION, STAGES = "workflows/flow.smk", "workflows/vision.smk", "dvc.yaml"
STREAMED = (
    "      - results/vision/train/${key}/model.safetensors\n      - results/vision/train/${key}/config.json\n"
    "    params:\n      - run.vision.experiments.${item.experiment}.task\n      - run.vision.stream"
)
TRAIN = (
    "\n    cmd: >-\n      exec python -m workflows.stage deq-flow train --method {item.method} --seed {item.seed}\n"
    "      --data"
)
REUSE = "    params:\n      - run.flow.reuse\n"
REUSED = '    output:\n        "results/flow/reuse/{run}/frames.csv"'
REPORT = '        expand("results/flow/figures/{figure}.svg"'
MUTATIONS = {
    "a stage forgets a dependency": (STAGES, "      - results/flow/train/${key}/config.json\n" + REUSE, REUSE),
    "a stage depends on too much": (STAGES, "- results/flow/figures\n", "- results/flow/figures\n      - data/flow\n"),
    "a stage writes under another name": (STAGES, "- results/flow/report.md", "- results/flow/summary.md"),
    "a stage trains other seeds": (STAGES, "seed: ${run.flow.seeds}" + TRAIN, "seed: [0]" + TRAIN),
    "a stage is renamed": (STAGES, "  flow_baselines:\n", "  flow_peers:\n"),
    "a rule forgets an input": (RULES, '        "results/flow/train/{run}/config.json",\n' + REUSED, REUSED),
    "a rule reads what the stage does not": (RULES, REPORT, '        "data/flow/manifest.json",\n' + REPORT),
    "a rule forgets an output": (RULES, '        "results/flow/train/{run}/metrics.json",\n', ""),
    "a rule runs another stage": (RULES, "--single-item flow_plot", "--single-item flow_report"),
    "a rule misspells its stage": (RULES, "--single-item flow_download", "--single-item flow_downlaod"),
    "a rule starts from another stage of the curriculum": (RULES, '"kitti": "sintel"', '"kitti": "things"'),
    "a stage of videos forgets its model": (STAGES, STREAMED, STREAMED.replace("model.safetensors", "metrics.json")),
    "a rule measures other seeds under the delta rule": (
        "workflows/sequence.smk",
        'method=SEQUENCE["delta"], seed=SEQUENCE["seeds"]',
        'method=SEQUENCE["delta"], seed=[0]',
    ),
    "a rule streams other seeds": (VISION, '["streamed"], seed=VISION["seeds"]', '["streamed"], seed=[0]'),
    "a rule loses seeds": (RULES, 'method=FLOW["methods"], seed=FLOW["seeds"]', 'method=FLOW["methods"], seed=[0]'),
}
"""Name: file, text, and what to put in its place."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy(tmp_path_factory.mktemp("checkout"))
    # What is compared does not depend on dates, and asking DVC for them would take half of the time.
    edit(folder / "workflows" / "common.smk", "        dvc_state.show_to_snakemake()\n", "        pass\n")
    return folder


@pytest.fixture(scope="module")
def rules(checkout: Path) -> dict[str, Job]:
    return snakemake_graph(checkout)


@pytest.fixture(scope="module")
def stages(checkout: Path) -> dict[str, Job]:
    return dvc_graph(checkout)


def test_rules_and_stages_are_one_graph(rules: dict[str, Job], stages: dict[str, Job]) -> None:
    assert differences(rules, stages) == []


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_they_are_one_graph_in_other_profiles_too(profile: str, checkout: Path) -> None:
    file = checkout / "params.yaml"
    before = file.read_text()
    set_parameters(checkout, {}, profile=profile)
    try:
        rules, stages = snakemake_graph(checkout), dvc_graph(checkout)
    finally:
        file.write_text(before)
    assert differences(rules, stages) == []
    assert any(name.startswith("vision_continue@") for name in stages)


def test_every_stage_enters_the_workspace_without_a_shell_in_between(stages: dict[str, Job]) -> None:
    entry = "exec python -m workflows.stage "
    assert [name for name, job in stages.items() if not job.command.startswith(entry)] == []


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_difference_is_noticed(mutation: str, checkout: Path, rules: dict[str, Job], stages: dict[str, Job]) -> None:
    name, old, new = MUTATIONS[mutation]
    file = checkout / name
    before = file.read_text()
    edit(file, old, new)
    try:
        if name != STAGES:
            rules = snakemake_graph(checkout)
        else:
            stages = dvc_graph(checkout)
    finally:
        file.write_text(before)
    assert differences(rules, stages) != []
