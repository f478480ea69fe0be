"""The published data sets of a package: fetched, checked, and as the data of a pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from deq_core.experiment.config import ConfigError
from deq_core.experiment.data import checks, released
from deq_core.experiment.data.checks import Problem
from deq_core.experiment.data.published import DataSet
from deq_core.experiment.download import fetch


@dataclass(frozen=True, kw_only=True)
class ReleasedSets:
    """Which of the published sets are the data of a pipeline, and where they are."""

    root: str
    """Folder of the sets, as the command `download` fills it."""
    sets: tuple[str, ...]
    """Names in the package's registry."""
    complete: bool = True
    """Whether a set must be the whole release; false takes a part of it."""
    kind: Literal["released"] = field(default="released", repr=False)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The data sets of a package by name."""

    program: str
    """The command line of the package."""
    sets: Mapping[str, DataSet]
    unit: str = "samples"
    """What a sample is called."""

    def named(self, name: str) -> DataSet:
        """The set of that name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.sets:
            raise ConfigError(f"no data set is named {name!r}; there are {', '.join(self.sets)}")
        return self.sets[name]

    def fetch(self, name: str, root: Path) -> None:
        """Downloads a set to `root`, or says how to get it. A broken download is continued; see `download.fetch`."""
        fetch.fetch(self.named(name).source, root)

    def check(self, name: str, root: Path, *, released: bool = True, thorough: bool = False) -> list[Problem]:
        """What is wrong with a set below `root`; empty if it is complete and every file whole.

        Args:
            name: of the set.
            root: folder of the data sets.
            released: whether the numbers of samples must be those of the release, and every split be there. False for
                a miniature or a part of the release, of which only what is there is checked.
            thorough: whether files are decoded too, which takes hours and finds part of the damage in their middle.

        Raises:
            ConfigError: there is no such set.
        """
        found = self.named(name)
        folder = root / found.folder
        whole = {suffix: partial(of_file, decoded=thorough) for suffix, of_file in found.whole.items()}
        places = [folder / place for place in found.places]
        problems = checks.check(root, folder, found.parts, whole, released=released, unit=self.unit, places=places)
        problems += found.disagreements(root)
        return list({str(problem): problem for problem in problems}.values())

    def report(self, name: str, root: Path, *, released: bool, thorough: bool) -> int:
        """Prints what `check` finds, a line each; how many problems there are. What a command `check-data` does."""
        problems = self.check(name, root, released=released, thorough=thorough)
        print("".join(f"{problem}\n" for problem in problems), end="")
        return len(problems)

    def prepare(self, out: Path, config: ReleasedSets) -> None:
        """Fetches what is missing, checks all, and writes `out`/manifest.json; see `released.prepare`.

        Raises:
            ConfigError: there is no such set.
            LayoutError: something is missing or damaged, by file; or a set must be got by hand, with instructions.
            DownloadError: a download failed; it continues next time.
        """
        chosen = {name: self.named(name) for name in config.sets}
        released.prepare(
            out,
            Path(config.root).expanduser(),
            config.sets,
            program=self.program,
            sources={name: found.source for name, found in chosen.items()},
            folders={name: found.folder for name, found in chosen.items()},
            check=lambda name, root: self.check(name, root, released=config.complete),
            complete=config.complete,
        )

    def provide(self, out: Path, config: Any, generate: Callable[[Path, Any], object]) -> dict[str, int]:
        """Puts the data of a pipeline into `out`, and counts its files and bytes.

        Args:
            out: folder of the pipeline.
            config: `ReleasedSets`, which are prepared, or what `generate` takes.
            generate: writes generated data into a folder.

        Raises:
            ConfigError, LayoutError, DownloadError: as `prepare` does.
        """
        if isinstance(config, ReleasedSets):
            self.prepare(out, config)
        else:
            generate(out, config)
        files = [path for path in out.rglob("*") if path.is_file()]
        return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
