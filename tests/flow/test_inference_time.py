"""The port that inference is timed against computes the same flow."""

import pytest
import torch
from benchmarks.flow.inference_time import main, networks

from deq_flow import build
from deq_flow.models import DEQFlow


@pytest.mark.parametrize("steps", [1, 5])
def test_the_straight_port_gives_the_flow_of_the_package(steps: int) -> None:
    network, straight = networks("deq-flow-tiny", steps)
    image1, image2 = 255 * torch.rand(2, 2, 3, 130, 150)
    with torch.no_grad():
        flow = network(image1, image2, steps=steps).flow
    assert flow.abs().max() > 0.1
    torch.testing.assert_close(straight(image1, image2, steps), flow, rtol=1e-4, atol=1e-4)


def test_what_the_port_does_not_know_is_refused() -> None:
    from benchmarks.flow.straight import Straight

    network = build("deq-flow-mini")
    assert isinstance(network, DEQFlow)
    with pytest.raises(ValueError, match="straight port knows"):
        Straight(network)


def test_the_table_has_both_times_and_their_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--height", "128", "--width", "128", "--steps", "1", "--threads", "1", "--repeats", "1"]
    main(["--model", "deq-flow-tiny", *sizes])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| part | straight port | deq_flow | ratio |"
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| pair, 1 evaluations", "| one evaluation"]
    assert lines[4].startswith("the flows differ by ")
