"""A job asks for the cores, devices and memory that its own section of params.yaml speaks of."""

import pytest
from ruamel.yaml import YAML
from tests.workflows.checkout import ROOT

from workflows.engines.resources import MEMORY, Resources, asked

PROFILE = {
    "train": {
        "plain": {"steps": 5},
        "threaded": {"threads": 2, "processes": 3},
        "cuda": {"device": "cuda", "workers": 4},
        "torchrun": {"device": "cuda", "processes": 2, "workers": 4},
    },
    "experiments": {"digits": {"recipe": {"device": "cuda"}, "task": {}}},
    "seeds": [0],
}


@pytest.mark.parametrize(
    ("keys", "threads", "gpu", "mem_mb"),
    [
        (["train.plain", "seeds", "train.absent.key"], 1, 0, MEMORY["cpu"]),
        (["train.threaded"], 6, 0, 3 * MEMORY["cpu"]),
        (["train.cuda"], 5, 1, MEMORY["cuda"]),
        (["train.torchrun"], 10, 2, 2 * MEMORY["cuda"]),
        (["experiments.digits", "seeds"], 1, 1, MEMORY["cuda"]),
        (["train"], 1, 0, MEMORY["cpu"]),  # a report on all methods runs none of them
        ([], 1, 0, MEMORY["cpu"]),
    ],
)
def test_a_job_asks_for_what_its_section_says(keys: list[str], threads: int, gpu: int, mem_mb: int) -> None:
    assert asked(PROFILE, keys) == Resources(threads=threads, gpu=gpu, mem_mb=mem_mb)


def test_a_stage_that_runs_no_network_says_so_itself() -> None:
    keys = ["train.cuda", "train.threaded"]
    assert asked(PROFILE, keys, {"device": "cpu"}) == Resources(threads=6, mem_mb=3 * MEMORY["cpu"])


def test_jobs_do_not_share_the_gpus_of_this_machine_by_default() -> None:
    assert "gpu_jobs=1" in YAML(typ="safe").load(ROOT / "profiles/default/config.yaml")["resources"]
