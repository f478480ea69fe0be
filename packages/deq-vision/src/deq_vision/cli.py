"""`deq-vision`: the table of its commands and their modules."""

from collections.abc import Mapping, Sequence

from deq_core.experiment import commands

COMMANDS: Mapping[str, Sequence[str]] = {
    "deq_vision.commands.training": ("train",),
    "deq_vision.commands.evaluation": ("evaluate",),
    "deq_vision.commands.register": ("register",),
    "deq_vision.commands.study": ("study", "report", "schema"),
    "deq_vision.commands.stream": ("stream",),
    "deq_vision.commands.demo": ("demo",),
    "deq_vision.commands.checkpoints": ("convert",),
    "deq_vision.commands.data": ("download", "check-data"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `deq-vision`; `arguments` are those of the command line by default."""

    commands.run("deq-vision", "Multiscale deep equilibrium models for vision.", COMMANDS, arguments=arguments)


if __name__ == "__main__":
    main()
