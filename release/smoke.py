"""Smoke tests of an installed package: `python -I smoke.py deq-flow`, in an empty folder."""

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

OPTIONAL = ("deq_flow.models.lookup.on_the_fly_triton",)
"""Modules with dependencies that the package does not require."""


def import_all(package: str, besides: str = "") -> None:
    """Imports each module of a package from the environment, in which undeclared dependencies are missing."""
    root = importlib.import_module(package)
    assert Path(str(root.__file__)).is_relative_to(Path(sys.prefix).parent), f"{root.__file__} is not of a wheel"
    assert Path(str(root.__file__)).with_name("py.typed").is_file() or "." in package
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not module.name.endswith(".__main__") and module.name not in (*OPTIONAL, besides):
            importlib.import_module(module.name)


def ask(*command: str) -> str:
    """Output of a program of the environment."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def check_program(name: str) -> None:
    """Checks that the program prints its version, also when run as a module, and its shell completion."""
    told = ask(name, "--version")
    assert told.startswith(f"{name} ")
    assert ask(sys.executable, "-I", "-m", name.replace("-", "_"), "--version") == told
    assert f"complete -F _tyro_{name.replace('-', '_')} {name}" in ask(name, "--tyro-print-completion", "bash")


def core() -> None:
    """Checks that torch suffices to solve and differentiate, and that a missing extra is reported."""
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
    """Checks that the shared modules of experiments import, and that their photographs are present."""
    import_all("deq_core.experiment")
    from deq_core.experiment.data import photographs

    assert photographs.load(photographs.STEREO[0]).shape == (500, 741, 3)


def flow() -> None:
    """Checks that the shipped network estimates the shift of a photograph in pixels."""
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
    """Checks that the shipped networks load, and that the demo runs on a photograph."""
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
    """Checks that the shipped network continues a text, and that the embedded text is present."""
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
