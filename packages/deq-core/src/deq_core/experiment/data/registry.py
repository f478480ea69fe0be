"""The published data sets of a package: fetched, checked, and as the data of a pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.checks import Problem, absent
from deq_core.experiment.data.layout import LayoutError, files_below
from deq_core.experiment.data.published import DataSet
from deq_core.experiment.download.fetch import fetch
from deq_core.experiment.errors import FileFormatError
from deq_core.experiment.files import output_directory, require_own, require_writable, write_json

SHOWN = 20
"""Problems that an error lists."""


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
        fetch(self.named(name).source, root)

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
        problems: list[Problem] = []
        present = [part for part in found.parts if (folder / part.place).is_dir()]
        for part in found.parts:
            if part not in present and (released or not present):
                problems.append(Problem(folder / part.place, "the folder is missing"))
        for part in present:
            try:
                count = len(part.read(root))
            except LayoutError as error:
                missing = [absent(path) for path in error.missing if not path.exists()]
                problems.extend(missing or [Problem(folder, str(error))])
            except FileFormatError as error:
                problems.append(Problem(folder / part.place, str(error)))
            else:
                if released and part.count is not None and count != part.count:
                    fault = f"expected {part.count} {self.unit} as released, got {count}"
                    problems.append(Problem(folder / part.place, fault))
        everything = [path for place in found.places for path in files_below(folder / place)]
        candidates = sorted(path for path in everything if path.suffix.lower() in found.whole)
        problems += [absent(path) for path in candidates if not path.exists()]
        files = [path for path in candidates if path.is_file()]
        for path in tqdm(files, desc=f"checking {folder.name}", unit="file", disable=None):
            try:
                found.whole[path.suffix.lower()](path, decoded=thorough)
            except (FileFormatError, OSError) as error:
                problems.append(Problem(path, str(error)))
        problems += found.disagreements(root)
        return list({str(problem): problem for problem in problems}.values())

    def prepare(self, out: Path, config: ReleasedSets) -> None:
        """Fetches the sets that are not at their root yet, checks all, and writes `out`/manifest.json.

        The manifest lists every file with its size; so that what was trained on them is outdated when the files change.

        Raises:
            ConfigError: there is no such set.
            LayoutError: something is missing or damaged, by file; or a set must be got by hand, with instructions.
            DownloadError: a download failed; it continues next time.
            OutputError: `out` cannot be written, or holds anything else.
        """
        sets, root = {name: self.named(name) for name in config.sets}, Path(config.root).expanduser()
        require_writable(out, folder=True)
        require_own(out, folder=True)
        problems: list[Problem] = []
        for name, found in sets.items():
            whole = all((root / archive.out).exists() for archive in found.source.archives)
            if not (root / found.folder).exists() or (config.complete and not whole):
                fetch(found.source, root)
            problems += self.check(name, root, released=config.complete)
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
            more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise LayoutError(
                f"data: {len(problems)} problems below {root}; `{self.program} check-data` lists each set's:\n"
                f"{listed}{more}"
            )
        files = {
            path.relative_to(root).as_posix(): path.stat().st_size
            for folder in dict.fromkeys(found.folder for found in sets.values())
            for path in files_below(root / folder)
            if path.is_file()
        }
        with output_directory(out) as partial:
            write_json(partial / "manifest.json", {"root": str(root.resolve()), "files": files})

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
