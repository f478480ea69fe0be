"""Report on the cost of a training step by gradient."""

from collections.abc import Mapping
from itertools import cycle

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Results
from deq_core.experiment.study.stage import Section, Single
from deq_core.experiment.study.training_costs import summary
from deq_core.experiment.tables import markdown

Found = Mapping[str, Mapping[str, Mapping[str, float]]]
"""{gradient: {evaluations: {bytes, seconds}}}."""


def ordered(found: Found) -> Found:
    """Sorted by number of evaluations; a file has them sorted as strings."""
    return {gradient: dict(sorted(of.items(), key=lambda each: int(each[0]))) for gradient, of in found.items()}


def costs_page(section: Section, results: Results) -> Page:
    """Memory and time of a domain's training step, by gradient and number of evaluations of f."""
    turns, samples = section.load(int, "costs.repeats"), section.load(int, "costs.batch_size")
    found = summary(results.rows("training_costs", [Single()], "steps"))
    said = (
        f"Loss and gradients of one fixed batch of {samples} samples, without an update. Seconds are medians of "
        f"{turns} repetitions. In brackets: seconds relative to the first gradient's at the same number of evaluations."
    )
    title = "Memory and time of a training step with each gradient"
    return Page(title=title, metrics=found, parts=[said, costs_table(found)], figures={"steps": figure(found)})


def costs_table(found: Found) -> str:
    """Table with one row for each gradient and quantity, and one column for each number of evaluations.

    Brackets have the time relative to the first gradient's, which depends less on the machine.
    """
    found = ordered(found)
    first, of_first = next(iter(found.items()))
    kept = [
        [gradient, "MB kept for backward", *(f"{values['bytes'] / 1e6:.2f}" for values in counts.values())]
        for gradient, counts in found.items()
    ]
    taken = [
        [
            gradient,
            f"seconds (relative to {first})",
            *(
                f"{values['seconds']:.3f} ({values['seconds'] / of_first[count]['seconds']:.2f})"
                for count, values in counts.items()
            ),
        ]
        for gradient, counts in found.items()
    ]
    return markdown(["gradient", "evaluations", *of_first], [*kept, *taken], names=2)


def figure(found: Found) -> Figure:
    """Memory and time against the number of evaluations, with one line for each gradient."""
    drawn, (memory, time) = plotting.figure(8.0, 3.2, columns=2)
    for axes, key, unit, name in ((memory, "bytes", 1e-6, "MB kept for backward"), (time, "seconds", 1.0, "seconds")):
        for (gradient, of), style in zip(ordered(found).items(), cycle(plotting.STYLES)):
            counts, values = [int(count) for count in of], [unit * each[key] for each in of.values()]
            plotting.curve(axes, counts, [values], label=gradient, linestyle=style, marker="o", markersize=3)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.set_xlabel("evaluations of f")
        axes.set_ylabel(name)
    plotting.legend(drawn)
    return drawn
