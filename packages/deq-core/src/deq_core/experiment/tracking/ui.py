"""Shows the runs in MLflow's web page: `python -m deq_core.experiment.tracking.ui`, or `make ui`.

Starts MLflow's server for this machine only, without the workers and the telemetry of `mlflow ui`. It opens the page of
all runs, where `mlflow ui` opens one for language models.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Sequence

from deq_core.experiment.ending import terminable
from deq_core.experiment.errors import UserError
from deq_core.experiment.tracking.store.connection import connect, tracking_uri
from deq_core.experiment.tracking.store.sqlite_store import artifact_location, one_line, sqlite_path, without_password

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def runs_page(address: str) -> str:
    """URL of the page with the runs of all experiments, on the server at `address`."""
    with one_line(tracking_uri()):
        found = [one.experiment_id for one in connect().search_experiments() if one.name != "Default"]
    if not found:
        return f"{address}/#/experiments?workflowType=machine_learning"
    chosen = urllib.parse.quote(json.dumps(sorted(found, key=int)))
    several = f"compare-experiments/s?experiments={chosen}&" if len(found) > 1 else f"experiments/{found[0]}/runs?"
    return f"{address}/#/{several}workflowType=machine_learning"


def command(port: int) -> list[str]:
    """Command that starts the server."""
    place = artifact_location(tracking_uri(), "")
    place_of_files = [] if place is None else ["--default-artifact-root", place]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *place_of_files, *where]


def environment() -> dict[str, str]:
    """Environment of the server, with the store's URI: in the command, a password would be visible to all users."""
    uri = tracking_uri()
    return os.environ | QUIET | {"MLFLOW_BACKEND_STORE_URI": uri if sqlite_path(uri) is None else without_password(uri)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the server until Ctrl-C or SIGTERM, or prints the page of the remote server in MLFLOW_TRACKING_URI."""
    parser = argparse.ArgumentParser(prog="python -m deq_core.experiment.tracking.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="port of the server on this machine (%(default)s)")
    port = parser.parse_args(arguments).port
    there = tracking_uri().startswith("http")
    address = without_password(tracking_uri()).rstrip("/") if there else f"http://127.0.0.1:{port}"
    try:
        page = runs_page(address)
    except UserError as error:
        sys.exit(str(error))
    if there:
        print(f"The runs: {page}")
        return
    server = subprocess.Popen(command(port), env=environment(), stdout=subprocess.DEVNULL)
    try:
        with terminable():
            show(server, address, page)
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def show(server: subprocess.Popen[bytes], address: str, page: str) -> None:
    """Prints and opens the page once the server answers, and waits until the server ends."""
    while server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(f"{address}/health", timeout=10).status == 200:
                break
        time.sleep(0.2)
    else:
        sys.exit("MLflow's server has ended, see above; if another program has its port, choose another with --port")
    print(f"The runs: {page}\nCtrl-C ends the server.", flush=True)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin":
        webbrowser.open(page)
    server.wait()


if __name__ == "__main__":
    main()
