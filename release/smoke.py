"""What an installed package must be able to do, alone: `python -I smoke.py deq-flow`, in an empty folder."""

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

OPTIONAL = ("deq_flow.models.lookup.on_the_fly_triton",)
"""Modules that need what the package does without."""


def import_all(package: str, besides: str = "") -> None:
    """Imports each module of a package from the environment; what one needs and nothing declares is missing there."""
    root = importlib.import_module(package)
    assert Path(str(root.__file__)).is_relative_to(Path(sys.prefix).parent), f"{root.__file__} is not of a wheel"
    assert Path(str(root.__file__)).with_name("py.typed").is_file() or "." in package
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not module.name.endswith(".__main__") and module.name not in (*OPTIONAL, besides):
            importlib.import_module(module.name)


def ask(*command: str) -> str:
    """What a program of the environment prints."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def check_program(name: str) -> None:
    """The program tells its version, as a module too, and prints its completion for shells."""
    told = ask(name, "--version")
    assert told.startswith(f"{name} ")
    assert ask(sys.executable, "-I", "-m", name.replace("-", "_"), "--version") == told
    assert f"complete -F _tyro_{name.replace('-', '_')} {name}" in ask(name, "--tyro-print-completion", "bash")


def core() -> None:
    """Torch is enough to solve, to differentiate, and to be told of the extra."""
    import torch

    import deq_core as deq

    a = torch.nn.Parameter(torch.tensor([[0.5, 0.2], [-0.1, 0.3]], dtype=torch.float64))
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    exact = torch.linalg.solve(torch.eye(2, dtype=a.dtype) - a, x.T).T
    (expected,) = torch.autograd.grad(exact.square().sum(), a)
    for solver in (deq.Anderson(), deq.Broyden(), deq.FixedPointIteration()):
        adjoint = deq.Implicit(stop=deq.Stop(100, tol=1e-10))
        found = deq.fixed_point(
            lambda z: z @ a.T + x, torch.zeros_like(x), solver=solver, stop=deq.Stop(100, tol=1e-10), adjoint=adjoint
        ).value
        (gradient,) = torch.autograd.grad(found.square().sum(), a)
        assert torch.allclose(found, exact, rtol=1e-8)
        assert torch.allclose(gradient, expected, rtol=1e-6)
    import_all("deq_core", besides="deq_core.experiment")
    told = ""
    try:
        import deq_core.experiment.commands  # noqa: F401
    except ModuleNotFoundError as error:
        told = str(error)
    assert "pip install 'deq-core[experiment]'" in told, (
        "deq_core.experiment is there, or does not tell how it would be"
    )


def experiment() -> None:
    """All that experiments share is there, and a run is recorded."""
    import_all("deq_core.experiment")
    from deq_core.experiment.data import photographs

    assert photographs.load(photographs.STEREO[0]).shape == (500, 741, 3)


def flow() -> None:
    """The network that ships sees by how many pixels a photograph was moved."""
    import cv2
    import numpy as np

    from deq_core.experiment.data import photographs

    import_all("deq_flow")
    check_program("deq-flow")
    picture = photographs.load("skimage/data/chelsea.png")
    for name, left in (("first.png", 103), ("second.png", 100)):
        cv2.imwrite(name, picture[60:188, left : left + 192])
    ask("deq-flow", "demo", "first.png", "second.png", "--out", "out", "--save", "npz", "--device", "cpu")
    (file,) = Path("out").rglob("*.npz")
    with np.load(file) as archive:
        moved = np.median(archive["flow"].reshape(2, -1), axis=1)
    assert np.abs(moved - (3, 0)).max() < 0.5, moved


def vision() -> None:
    """Each network that ships sees something in a photograph."""
    import cv2

    import deq_vision
    from deq_core.experiment.data import photographs
    from deq_vision.models.shipped import SHIPPED

    import_all("deq_vision")
    check_program("deq-vision")
    cv2.imwrite("picture.png", photographs.load("skimage/data/chelsea.png")[60:188, 100:228])
    assert all(list(deq_vision.load(name).parameters()) for name in SHIPPED)
    ask("deq-vision", "demo", "picture.png", "--checkpoint", "street", "--out", "out", "--device", "cpu")
    assert json.loads(Path("out/demo.json").read_text())


def sequence() -> None:
    """The network that ships goes on with a text, and the text that ships is there."""
    import_all("deq_sequence")
    check_program("deq-sequence")
    told = ask("deq-sequence", "generate", "--prompt", "The database ", "--length", "8")
    assert told.startswith("The database ")
    assert len(told.strip()) > len("The database ")
    from deq_sequence.data.mini import documents

    assert documents()


CASES: Mapping[str, Callable[[], None]] = {
    "deq-core": core,
    "deq-core[experiment]": experiment,
    "deq-flow": flow,
    "deq-vision": vision,
    "deq-sequence": sequence,
}

if __name__ == "__main__":
    CASES[sys.argv[1]]()
