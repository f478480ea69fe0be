"""`deq-sequence`: the table of its commands, each with the module that holds it."""

from collections.abc import Mapping, Sequence

from deq_core.experiment import commands

COMMANDS: Mapping[str, Sequence[str]] = {
    "deq_sequence.commands.pipeline": ("prepare", "train", "evaluate", "baselines", "plot", "report", "schema"),
    "deq_sequence.commands.data": ("fetch", "check-data"),
    "deq_sequence.commands.checkpoints": ("convert",),
    "deq_sequence.commands.generate": ("generate",),
    "deq_sequence.commands.delta": ("delta", "delta-report"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `deq-sequence`; `arguments` are those of the command line by default."""

    commands.run("deq-sequence", "Language models with deep equilibrium models.", COMMANDS, arguments=arguments)


if __name__ == "__main__":
    main()
