"""Registry of a package's published data sets: download, checks, and use in a pipeline."""

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
"""Maximum number of problems listed in an error."""


@dataclass(frozen=True, kw_only=True)
class ReleasedSets:
    """Published data sets as the data of a pipeline."""

    root: str
    """Folder of the sets, as written by the command `download`."""
    sets: tuple[str, ...]
    """Names of the sets in the package's registry."""
    complete: bool = True
    """Whether each set must be complete; false accepts a part of the release."""
    kind: Literal["released"] = field(default="released", repr=False)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The data sets of a package by name."""

    program: str
    """Name of the package's command-line program."""
    sets: Mapping[str, DataSet]
    unit: str = "samples"
    """Word for samples in messages."""

    def named(self, name: str) -> DataSet:
        """The data set called `name`.

        Raises:
            ConfigError: there is no such set.
        """
        if name not in self.sets:
            raise ConfigError(f"no data set is named {name!r}; there are {', '.join(self.sets)}")
        return self.sets[name]

    def fetch(self, name: str, root: Path) -> None:
        """Downloads a set to `root`, or says how to get it; resumes an interrupted download. See `download.fetch`."""
        fetch(self.named(name).source, root)

    def check(self, name: str, root: Path, *, released: bool = True, thorough: bool = False) -> list[Problem]:
        """Problems of a data set below `root`; empty if it is complete and no file is damaged.

        Args:
            name: name of the set.
            root: folder of all data sets.
            released: whether all splits and the released numbers of samples are required. False for a miniature or a
                part of the release.
            thorough: whether to decode files as well, which takes hours and finds some further damage.

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
        """Downloads missing sets, checks all of them, and writes `out`/manifest.json.

        The manifest lists every file with its size, so that trainings become outdated when files change.

        Raises:
            ConfigError: there is no such set.
            LayoutError: files are missing or damaged, or a set must be downloaded by hand (the message says how).
            DownloadError: a download failed; the next call resumes it.
            OutputError: `out` cannot be written, or has other content.
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
        """Prepares or generates the data of a pipeline in `out`; returns the numbers of files and bytes.

        Args:
            out: folder of the pipeline's data.
            config: `ReleasedSets` to prepare, or the configuration of generated data.
            generate: `generate(out, config)` writes generated data into a folder.

        Raises:
            ConfigError, LayoutError, DownloadError: as in `prepare`.
        """
        if isinstance(config, ReleasedSets):
            self.prepare(out, config)
        else:
            generate(out, config)
        files = [path for path in out.rglob("*") if path.is_file()]
        return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
