"""Fine-tuning on your own pairs. Its options are the few numbers that are often changed; all are in its recipe."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment import config
from deq_core.experiment.commands import Positional, default, fingerprint, finish, resumable
from deq_core.experiment.data.contents import contents
from deq_core.experiment.data.released import located
from deq_core.experiment.device import chosen_device
from deq_core.experiment.tracking.run import track
from deq_flow.data.mixes import READERS, files_of
from deq_flow.networks import file_of, load
from deq_flow.training.fine_tune import FineTune, fitted, has_fixed_point
from deq_flow.training.fine_tune import fine_tune as tune


def fine_tune(
    data: Annotated[Path, Positional],
    *,
    out: Path,
    start: str = "default",
    set: Annotated[str | None, default("own")] = None,
    steps: Annotated[int | None, default("300")] = None,
    lr: Annotated[float | None, default("1e-4")] = None,
    batch_size: Annotated[int | None, default("8")] = None,
    crop: Annotated[tuple[int, int] | None, default("96 128, less where frames are smaller")] = None,
    validation_share: Annotated[float | None, default("0.1")] = None,
    threads: Annotated[int | None, default("1")] = None,
    seed: config.Seed = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    params: Annotated[Path | None, default("none")] = None,
    section: str = "",
    scratch: Path = Path(".scratch"),
) -> None:
    """Fine-tunes a network on the pairs in the folder DATA; writes a checkpoint to OUT.

    The network keeps its stored solver, leak and scales. A share of the pairs is held out; the error on them is
    measured before and after. Run the same command again to resume an interrupted training from its checkpoint in
    `scratch`.

    Args:
        data: folder of pairs with flow: files NAME_img1, NAME_img2 and NAME_flow, or videos as folders `frames` and
            `flow`.
        out: a new folder, or the unchanged output of an earlier fine-tuning, which is replaced.
        start: the network to fine-tune: a shipped name, a folder written by training, a weights file (.safetensors), or
            a released file (.pth).
        set: published set in DATA, by its name in recipes, such as kitti.
        steps: number of updates.
        lr: peak learning rate.
        batch_size: pairs per update.
        crop: height and width of the random crops, in pixels.
        validation_share: share of the pairs that is held out, as whole scenes where the pairs come in scenes.
        threads: CPU threads.
        seed: random seed of the order of the pairs and their augmentation.
        device: device to train on; auto is CUDA if available.
        params: recipe file, such as recipe.json of an earlier fine-tuning; the options above override it.
        section: section of that file.
        scratch: folder for the checkpoints of interrupted trainings.
    """
    recipe = FineTune() if params is None else config.load(FineTune, params, section)
    options = {"data": set, "steps": steps, "batch_size": batch_size, "crop": crop, "threads": threads}
    recipe = config.changed(recipe, {**options, "optim.lr": lr, "held_out.share": validation_share})
    weights, place = file_of(start), "cuda" if chosen_device(device).type == "cuda" else "cpu"
    recipe = fitted(recipe, data)
    if not has_fixed_point(load(weights)):
        print(
            f"deq-flow fine-tune: {start} has no leak, so its map has no fixed point. It is trained without the "
            "losses that stabilise one",
            file=sys.stderr,
        )
    parameters = {"start": start, "fine_tune": recipe, "device": place}
    files = contents(files_of([READERS[recipe.data](located(data))]))
    digest = fingerprint({**parameters, "files": files}, weights, package="deq_flow")
    with (
        resumable(scratch, f"flow_fine-tune-{seed}", digest, out=out) as folder,
        track(
            "flow.fine-tune",
            parameters,
            out=out,
            kind="train",
            case={"start": start, "seed": seed},
            scratch=folder,
            parent_of=weights,
        ) as log,
    ):
        found = tune(start, recipe, seed=seed, data=data, device=place, out=out, scratch=folder, log=log)
    print(summary(found), file=sys.stderr)
    finish(found)


def summary(found: Mapping[str, float]) -> str:
    """The result in one sentence."""
    said = (
        f"error on the held-out pairs: {found['before_epe']:.3f} px before, {found['val_epe']:.3f} px after, "
        f"{found['zero_epe']:.3f} px with zero flow"
    )
    if "val_change" in found:
        said += (
            f"; with twice the evaluations flow changes by {found['before_change']:.3f} px before, "
            f"{found['val_change']:.3f} px after"
        )
    return said
