"""`deq-sequence`: the table of its commands and their modules."""

from collections.abc import Mapping, Sequence

from deq_core.experiment import commands

COMMANDS: Mapping[str, Sequence[str]] = {
    "deq_sequence.commands.training": ("train",),
    "deq_sequence.commands.evaluation": ("evaluate",),
    "deq_sequence.commands.register": ("register",),
    "deq_sequence.commands.study": ("study", "report", "schema"),
    "deq_sequence.commands.data": ("download", "check-data"),
    "deq_sequence.commands.checkpoints": ("convert",),
    "deq_sequence.commands.generate": ("generate",),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `deq-sequence`; `arguments` are those of the command line by default."""

    commands.run("deq-sequence", "Language models with deep equilibrium models.", COMMANDS, arguments=arguments)


if __name__ == "__main__":
    main()
