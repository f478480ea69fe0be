"""The animation in the documentation, docs/figures/flow_video.webp: `python -m benchmarks.flow.moving_picture`.

It shows a swinging scene of photographs that were not used in training, and beside it its flow by the shipped network,
with each frame started from the fixed point of the one before. The scene was selected from five.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from deq_core.experiment.media import video
from deq_flow.cli import main as deq_flow
from deq_flow.data.mini.studio import Studio
from deq_flow.data.mini.videos import VideosConfig, write_videos
from deq_flow.data.mini.write import MiniConfig

OUT = Path(__file__).parents[2] / "docs" / "figures" / "flow_video.webp"
FPS = 12


def main(out: Path, seed: int) -> None:
    """Writes the animation, which loops without a jump."""
    numbers = MiniConfig(seed=seed, height=144, width=208)
    swing = VideosConfig(videos=1, frames=26, period=25.0)
    with TemporaryDirectory() as folder:
        studio = Studio(seed, numbers.size, numbers.scene, numbers.final, numbers.kitti_density, lambda: None)
        write_videos(Path(folder), swing, studio)
        frames = next(Path(folder).rglob("clean/video_1"))
        seen = Path(folder, "seen")
        options = "--save side-by-side --container mkv --start reuse --max-speed 12"
        deq_flow(["demo", str(frames), "--out", str(seen), *options.split()])
        pictures = [
            Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in video.frames(seen / "side-by-side.mkv")
        ]
    first, *others = pictures
    first.save(out, save_all=True, append_images=others, duration=1000 // FPS, loop=0, quality=75, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=2, help="of the scene")
    options = parser.parse_args()
    main(options.out, options.seed)
