"""Finds the run that wrote a file, and the files of a run.

python -m deq_core.experiment.tracking.find results/flow/report/table/report.md
python -m deq_core.experiment.tracking.find "flow_train deq-0"
"""

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deq_core.experiment.ending import ending
from deq_core.experiment.errors import ResultsError, UserError
from deq_core.experiment.tracking import provenance
from deq_core.experiment.tracking.store.connection import connect, tracking_uri
from deq_core.experiment.tracking.store.entries import writer
from deq_core.experiment.tracking.store.keys import text_of
from deq_core.experiment.tracking.store.sqlite_store import one_line, without_password

if TYPE_CHECKING:
    from deq_core.experiment.tracking.store.entries import MlflowClient, Run


def find(path: Path) -> str | None:
    """ID of the last run that wrote the file `path` with its present content, None if no run did."""
    with one_line(tracking_uri()):
        client = connect()
        run = writer(client, _experiments(client), provenance.of_files("out", [path]))
    return None if run is None else run.info.run_id


def told(wanted: str) -> list[str]:
    """Description, in lines, of a run and all its files.

    Args:
        wanted: a file, for the run that wrote it, or the ID or name of a run.

    Raises:
        ResultsError: there is no such file or run, or no run wrote the file with its present content.
        OutputError: the store cannot be read.
    """
    path = Path(wanted)
    with one_line(tracking_uri()):
        client = connect()
        if path.is_file():
            run = writer(client, _experiments(client), provenance.of_files("out", [path]))
            if run is None:
                store = without_password(tracking_uri())
                raise ResultsError(f"{wanted}: no run in {store} wrote this version of the file")
        else:
            run = _named(client, wanted)
            if run is None:
                raise ResultsError(f"{wanted}: expected a file, or the ID or name of a run, and there is none of these")
        parent = run.data.tags.get("mlflow.parentRunId")
        above = "" if parent is None else str(client.get_run(parent).info.run_name)
    return [*_description(run, above), *_files(run)]


def _description(run: "Run", above: str) -> list[str]:
    tags, begun = run.data.tags, datetime.fromtimestamp((run.info.start_time or 0) / 1000)
    lines = {
        "run": f"{run.info.run_name} ({run.info.run_id})",
        "status": f"{run.info.status}, begun {begun:%Y-%m-%d %H:%M:%S}",
        "below": above,
        **{name: tags.get(name, "") for name in ("profile", "kind", "method", "seed")},
        "commit": tags.get("mlflow.source.git.commit", "")
        + (" with changes" if tags.get("git.dirty") == "true" else ""),
        "command": tags.get("mlflow.source.name", ""),
    }
    return [f"{name:8} {value}" for name, value in lines.items() if value]


def _files(run: "Run") -> list[str]:
    """One line for each file that the run read or wrote: MD5, path, and whether it has changed or is gone."""
    tags, lines = run.data.tags, []
    for prefix, word in (("dep.", "read"), ("out.", "wrote")):
        for key, md5 in sorted(tags.items()):
            whole = tags.get(f"name.{key.rpartition('::')[2]}") if "::" in key else text_of(key)
            if whole is not None and whole.startswith(prefix):
                path = Path(whole.removeprefix(prefix))
                lines.append(f"{word:8} {md5} {path}{_fate(path, md5)}")
    return lines


def _fate(path: Path, md5: str) -> str:
    if path.is_file() and provenance.md5(path) == md5:
        return ""
    kept = Path(".dvc/cache/files/md5", md5[:2], md5[2:])
    now = "changed since" if path.exists() else "gone"
    return f" ({now}; {kept} is as it was)" if kept.exists() else f" ({now})"


def _named(client: "MlflowClient", wanted: str) -> "Run | None":
    """The run with the ID `wanted`, or the last one with that name."""
    if re.fullmatch(r"[0-9a-f]{32}", wanted):
        query = f"attributes.run_id = '{wanted}'"
    elif "'" in wanted or not wanted:
        return None
    else:
        query = f"attributes.run_name = '{wanted}'"
    order = ["attributes.start_time DESC"]
    return next(iter(client.search_runs(_experiments(client), query, max_results=1, order_by=order)), None)


def _experiments(client: "MlflowClient") -> list[str]:
    return [experiment.experiment_id for experiment in client.search_experiments()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the run of each file and the files of each run; exits with status 1 if one is not found."""
    parser = argparse.ArgumentParser(
        prog="python -m deq_core.experiment.tracking.find",
        description="Prints the run that wrote the present version of a file, or the run of that ID or name, and the "
        "files that it read and wrote. The exit status is 1 if there is no such run.",
    )
    parser.add_argument("wanted", nargs="+", metavar="FILE|RUN", help="a file, or the ID or name of a run")
    faults = 0
    with ending("tracking.find"):
        for wanted in parser.parse_args(arguments).wanted:
            try:
                print(*told(wanted), sep="\n")
            except UserError as error:
                print(error, file=sys.stderr)
                faults = 1
    sys.exit(faults)


if __name__ == "__main__":
    main()
