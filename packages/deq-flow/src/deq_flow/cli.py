"""`deq-flow`: its commands, by module."""

from collections.abc import Mapping, Sequence

from deq_core.experiment import commands

COMMANDS: Mapping[str, Sequence[str]] = {
    "deq_flow.commands.training": ("train",),
    "deq_flow.commands.fine_tuning": ("fine-tune",),
    "deq_flow.commands.data": ("download", "check-data"),
    "deq_flow.commands.checkpoints": ("convert", "export"),
    "deq_flow.commands.evaluation": ("evaluate", "sequences", "submit"),
    "deq_flow.commands.demo": ("demo",),
    "deq_flow.commands.shipped": ("train-shipped",),
    "deq_flow.commands.register": ("register",),
    "deq_flow.commands.study": ("study", "report", "schema"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `deq-flow`; `arguments` are those of the command line by default."""

    commands.run("deq-flow", "Optical flow with deep equilibrium models.", COMMANDS, arguments=arguments)


if __name__ == "__main__":
    main()
