"""Networks as models of MLflow: what they predict is what the networks give."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from tests.core.experiment.mlflow_server import PATIENCE, free_port

import deq_flow.demo.predict
import deq_sequence.demo.predict
import deq_vision.demo.predict
from deq_core.experiment.config import ConfigError
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.tracking.models import called
from deq_flow.cli import main as flow
from deq_flow.inference import Estimator
from deq_sequence import networks
from deq_sequence.cli import main as sequence
from deq_sequence.demo.prompt import PromptError
from deq_vision.cli import main as vision
from deq_vision.demo.images import entry_of, see
from deq_vision.demo.label_space import label_space_of
from deq_vision.demo.viewer import Viewer
from deq_vision.models import shipped

RNG = np.random.default_rng(0)
PAIR = {name: RNG.uniform(0, 255, (1, 3, 48, 64)).astype(np.float32) for name in ("image1", "image2")}
IMAGES = RNG.integers(0, 256, (2, 3, 64, 96), dtype=np.uint8)


@pytest.fixture
def loaded(
    tracking_database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Registers by a command, and loads the model by the name and alias that the command gave it."""
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(f"sqlite:///{tracking_database}")

    def load(command: Callable[[list[str]], None], *arguments: str) -> Any:
        command(["register", *arguments])
        said = capsys.readouterr().out.splitlines()
        assert json.loads(said[-1]) == {"version": 1}
        return mlflow.pyfunc.load_model(said[0].partition(",")[0])

    return load


def network_flow(images: dict[str, np.ndarray]) -> np.ndarray:
    """Flow of the shipped network."""
    first, second = (torch.from_numpy(images[name]) for name in ("image1", "image2"))
    return Estimator(deq_flow.load("default"))(first, second).flow.numpy()


def test_flow_is_that_of_the_network(loaded: Callable[..., Any], tracking_database: Path) -> None:
    model = loaded(flow, "default")
    assert np.array_equal(model.predict(PAIR)["flow"], network_flow(PAIR))
    client = MlflowClient(tracking_uri=f"sqlite:///{tracking_database}")
    version = client.get_model_version_by_alias("deq-flow-default", "shipped")
    assert version.run_id is not None
    run = client.get_run(version.run_id)
    assert (run.info.status, run.data.tags["kind"]) == ("FINISHED", "register")
    names = {path.name for path in tracking_database.parent.rglob("mlartifacts/**/*") if path.is_file()}
    assert "model.safetensors" in names
    assert not [name for name in names if name.endswith((".pkl", ".pth", ".pt"))], "a pickle may run code"


@pytest.mark.parametrize("name", ["digits", "street", "detect"])
def test_vision_is_that_of_the_network(name: str, loaded: Callable[..., Any]) -> None:
    found = loaded(vision, name).predict({"images": IMAGES})
    model = deq_vision.load(name)
    viewer = Viewer(model, label_space_of(model))
    names = viewer.label_space.names
    for number, image in enumerate(IMAGES):
        frame = torch.from_numpy(image)
        prepared, output = see(viewer, frame, Path("image"))
        entry = entry_of(viewer, output, prepared, frame)
        match viewer.label_space.task:
            case "classify":
                assert names[found["class"][number]] == entry["classes"][0]["class"]
                assert found["probabilities"][number].max() == pytest.approx(entry["classes"][0]["probability"])
            case "segment":
                mask = found["mask"][number]
                assert mask.shape == (64, 96)
                assert entry["shares"] == pytest.approx(
                    {names[kind]: float((mask == kind).mean()) for kind in np.unique(mask)}
                )
            case "detect":
                own = found["image"] == number
                assert found["boxes"][own].tolist() == [one["box"] for one in entry["boxes"]]
                assert found["scores"][own].tolist() == [one["score"] for one in entry["boxes"]]
                assert [names[kind] for kind in found["classes"][own]] == [one["class"] for one in entry["boxes"]]


def test_text_is_that_of_generate_whatever_the_file_of_the_weights_is_called(
    loaded: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for file in networks.SHIPPED["default"].iterdir():
        shutil.copyfile(file, tmp_path / file.name.replace("model.", "prose."))
    model = loaded(sequence, str(tmp_path / "prose.safetensors"), "--alias", "now")
    texts = model.predict(["The ", "A table "], params={"length": 20, "seed": 3})
    with contextlib.suppress(SystemExit):
        sequence(["generate", "--prompt", "A table ", "--length", "20", "--seed", "3", "--top-p", "0.95"])
    assert texts[1] == capsys.readouterr().out.removesuffix("\n")
    assert texts[0].startswith("The ")


def test_a_network_is_called_as_its_folder_or_its_file() -> None:
    for checkpoint, name in {"a/deq-0": "deq-0", "a/deq-0/model.safetensors": "deq-0", "a/x.safetensors": "x"}.items():
        assert called("p", checkpoint, ("x",), None, None) == {"name": f"p-{name}", "alias": "trained"}
    assert called("p", "x", ("x",), None, None) == {"name": "p-x", "alias": "shipped"}
    for checkpoint, alias, option in (("lr:1", None, "name"), ("x", "v1", "alias"), ("x", "Latest", "alias")):
        with pytest.raises(ConfigError, match=f"^--{option}: expected"):
            called("p", checkpoint, ("x",), None, alias)


def test_a_batch_of_nothing_gives_nothing_and_what_is_no_input_no_value(tmp_path: Path) -> None:
    flow_of = deq_flow.demo.predict.Predictor(deq_flow.networks.SHIPPED["default"])
    assert flow_of({name: images[:0] for name, images in PAIR.items()})["flow"].shape == (0, 2, 48, 64)
    with pytest.raises(NonFiniteError, match="pair 1: the flow is not finite"):
        flow_of({name: np.concatenate([images, np.nan * images]) for name, images in PAIR.items()})
    for name in ("digits", "street", "detect"):
        predictor = deq_vision.demo.predict.Predictor(shipped.SHIPPED[name])
        found = predictor({"images": IMAGES})
        for key, values in predictor({"images": IMAGES[:0]}).items():
            assert (len(values), values.ndim, values.dtype) == (0, found[key].ndim, found[key].dtype)
    text_of = deq_sequence.demo.predict.Predictor(networks.SHIPPED["default"])
    assert text_of(pd.DataFrame({0: []})) == []
    with pytest.raises(PromptError, match=r"prompt 1: expected a text, got (None|nan); leave it out"):
        text_of(pd.DataFrame({0: ["The ", None]}), length=1)


def test_a_file_that_may_hold_code_is_refused(
    tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raft.pth").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"raft\.pth: expected a \.safetensors file; `convert` makes one"):
        flow(["register", "raft.pth"])


@pytest.mark.slow
def test_a_served_model_answers_with_the_flow_of_the_network(loaded: Callable[..., Any], tmp_path: Path) -> None:
    loaded(flow, "default", "--name", "served", "--alias", "now")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/served@now", "--env-manager", "local"]
    with (tmp_path / "serve.log").open("w") as log:
        served = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log, start_new_session=True
        )
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert served.poll() is None, (tmp_path / "serve.log").read_text()
            with contextlib.suppress(urllib.error.URLError, OSError):
                if urllib.request.urlopen(f"{address}/ping", timeout=10).status == 200:
                    break
            time.sleep(0.5)
        body = json.dumps({"inputs": {name: images.tolist() for name, images in PAIR.items()}}).encode()
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        answer = json.load(urllib.request.urlopen(request, timeout=PATIENCE))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(served.pid, signal.SIGKILL)
        served.wait()
    assert np.array_equal(np.float32(answer["predictions"]["flow"]), network_flow(PAIR))
