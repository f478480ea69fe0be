"""Entry point of the programs for a shell, which has Ctrl-C in hand before anything is imported that takes long."""

import gc
import importlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType


def main() -> None:
    """Runs the command line of the package that the program is named after: `deq-flow` is `deq_flow.cli`.

    Until that is imported nothing is done that would have to be ended in order: Ctrl-C is one line and the status of a
    shell, at once. From then on it is `deq_core.experiment.ending`'s. An interrupt that is ignored or handled stays so.
    """
    program = Path(sys.argv[0]).resolve().name

    def end(number: int, frame: FrameType | None) -> None:
        os.write(sys.stderr.fileno(), f"{program}: interrupted\n".encode())
        os._exit(128 + number)

    free = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if free:
        signal.signal(signal.SIGINT, end)
    gc.disable()
    cli = importlib.import_module(f"{program.replace('-', '_')}.cli")
    gc.freeze()  # what is imported stays, and no collection need look at it again
    gc.enable()
    if free:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()
