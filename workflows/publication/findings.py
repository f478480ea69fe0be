"""The findings of reports in sentences. All measured numbers in prose are made here.

Each function takes the metrics.json of a study and returns Markdown. `workflows.publish` puts those of docs/results
into the documentation, and `workflows.page` those of results into results/report.html.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

from deq_core.experiment.study.path_report import Unit, solvers_of
from deq_core.experiment.study.savings import best_variants
from deq_flow.reports.delta import sweep as delta_sweep
from deq_flow.reports.gradients import FORMS, sets_of
from deq_sequence.reports.delta import STARTS
from deq_vision.reports.headlines import HEADLINES, IMAGES, headline
from deq_vision.reports.scores import MDEQ

Values = Mapping[str, Any]


def flow(found: Values) -> str:
    """DEQ-Flow compared with zero flow, RAFT of the same size, and DIS."""
    sets = list(found["deq"])
    still = found["zero"]["sintel_clean"]["epe"]
    ratio = {name: found[name]["sintel_clean"]["epe"] / still for name in ("deq", "raft")}
    several = {name: values for name, values in found["deq less"]["raft"].items() if values["scenes"] > 1}
    beyond = [name for name, values in several.items() if values["high"] < 0]
    ahead = {
        peer: [name for name in sets if found["deq"][name]["epe"] < found[peer][name]["epe"]]
        for peer in ("raft", "dis", "dis_fine")
    }
    return bullets(
        f"On Sintel-mini clean, the error of DEQ-Flow is {ratio['deq']:.2f} of that of zero flow. A RAFT of the same "
        f"size, trained on the same batches for the same number of steps, has {ratio['raft']:.2f}.",
        f"The mean error of DEQ-Flow is below RAFT's on {share(ahead['raft'], sets)} sets. The bootstrap interval of "
        f"the difference is below zero on {share(beyond, list(several))} sets with several scenes.",
        f"It is below the error of DIS as shipped on {share(ahead['dis'], sets)} sets, and below the error of DIS at "
        f"full resolution on {share(ahead['dis_fine'], sets)}.",
    )


def curriculum(found: Values) -> str:
    """The change of error by each stage of the curriculum on Sintel-mini."""
    stages = [stage for stage in ("chairs", "things", "sintel", "kitti") if f"deq, {stage}" in found]
    changes = [
        f"{later} {' and '.join(difference(found, later, earlier, name) for name in ('sintel_clean', 'sintel_final'))}"
        for earlier, later in pairwise(stages)
    ]
    return f"Change of the error by each stage on Sintel-mini clean and final, px: {', '.join(changes)}."


def difference(found: Values, later: str, earlier: str, name: str) -> str:
    """The difference of two stages' errors on one set."""
    return f"{found[f'deq, {later}'][name]['epe'] - found[f'deq, {earlier}'][name]['epe']:+.2f}"


def reuse(found: Values) -> str:
    """The savings and the loss of accuracy by starting from the state of the last frame."""
    lines = []
    for method, budgets in found.items():
        for budget, starts in budgets.items():
            cold, last = starts["cold"], starts["reuse"]
            saved = 100 * (1 - last["iterations"] / cold["iterations"])
            more = 100 * (last["epe"] / cold["epe"] - 1)
            line = (
                f"`{method}`, {budget}: {changed(-saved, 'evaluations')}, {changed(more, 'error')} "
                f"({cold['epe']:.2f} to {last['epe']:.2f} px)"
            )
            if "converged" in cold:
                line += f"; converged pairs: {100 * cold['converged']:.0f} % and {100 * last['converged']:.0f} %"
            lines.append(line)
    return "`reuse` compared with cold starts:\n\n" + bullets(*lines)


def gradients(found: Values) -> str:
    """Which trainings were lost, and the changes by correction and by the gradient in the others."""
    sets, methods = sets_of(found), found["methods"]
    lost = [
        f"{forms[form]['lost']} of {forms[form]['seeds']} trained with {method} ({said})"
        for method, forms in methods.items()
        for form, said in FORMS.items()
        if forms[form]["lost"]
    ]
    lines = [f"Networks that are worse than zero flow after training: {'; '.join(lost) or 'none'}."]
    corrected = {method: forms["correction"] for method, forms in methods.items()}
    lines.append(differing("Changes by correction", corrected, sets))
    for first in dict.fromkeys(key for forms in methods.values() for key in forms if key.startswith("less ")):
        for form, said in FORMS.items():
            other = first.removeprefix("less ")
            beside = {f"{method} minus {other}": of[first][form] for method, of in methods.items() if first in of}
            lines.append(differing(f"Changes by another gradient ({said})", beside, sets))
    return bullets(*lines)


def differing(what: str, differences: Mapping[str, Values], sets: Mapping[str, str]) -> str:
    """Changes of error and residual on the first set, and how often errors change in one direction with every seed."""
    known = {method: values for method, values in differences.items() if values}
    if not known:
        return ""
    shown, title = next(iter(sets.items()))
    changes = {
        name: ", ".join(f"{method} {signed(values, f'{shown}.{name}')}" for method, values in known.items())
        for name in ("epe", "residual")
    }
    errors = [(values[f"{name}.epe"], values[f"{name}.epe_agree"]) for values in known.values() for name in sets]
    lower, higher = (sum(bool(agree) and sign * change > 0 for change, agree in errors) for sign in (-1, 1))
    return (
        f"{what}, on {title}: error (px) {changes['epe']}; residual {changes['residual']}. Over all sets, the error is "
        f"lower with every seed in {lower} of {len(errors)} comparisons, and higher with every seed in {higher}."
    )


def training_costs(found: Values) -> str:
    """Growth of memory and time of a step with the evaluations of f, and their ratios between gradients at the end."""
    first, of_first = next(iter(found.items()))
    counts = sorted(of_first, key=int)
    least, most = counts[0], counts[-1]
    grown = {
        key: ", ".join(f"{of[most][key] / of[least][key]:.1f} ({gradient})" for gradient, of in found.items())
        for key in ("bytes", "seconds")
    }
    ends = [
        f"{gradient} keeps {of[most]['bytes'] / of_first[most]['bytes']:.1f} times as much and takes "
        f"{of[most]['seconds'] / of_first[most]['seconds']:.1f} times as long"
        for gradient, of in found.items()
        if gradient != first
    ]
    return bullets(
        f"From {least} to {most} evaluations of f, the memory kept for backward grows by factors of {grown['bytes']}, "
        f"and the time of a step by {grown['seconds']}.",
        f"At {most} evaluations, compared with {first}: {'; '.join(ends)}." if ends else "",
    )


def delta(found: Values) -> str:
    """The delta rule compared with fewer steps, as both were chosen."""
    savings = found["savings"]
    images = {name: bounds for name, bounds in savings.items() if name.startswith("image, ")}
    flow = delta_sweep.chosen({name: bounds for name, bounds in savings.items() if name not in images})
    of_videos = {"stream": "On videos, starting from the previous frame's states and memories (`stream`),"}
    of_videos["reuse"] = "On videos, starting from the previous frame's states with fresh memories (`reuse`),"
    return bullets(
        *(compared(said, flow, f"video, {start}", "1 %") for start, said in of_videos.items()),
        compared("With cold starts of flow networks,", flow, "cold", "1 %"),
        compared("For images,", images, "seen", "0.1 dB"),
    )


def sequence_delta(found: Values) -> str:
    """The same for language models, by the start of a token's solve."""
    chosen = best_variants(found["savings"], STARTS)
    return bullets(*(compared(f"With the start `{start}`,", chosen, start, "1 %") for start in STARTS))


def compared(what: str, savings: Values, ending: str, bound: str) -> str:
    """Savings of the rule and of fewer steps within a bound, in all cases with one ending, and where the rule is ahead.

    Empty if there is no such case.
    """
    cases = {
        name.removesuffix(f", {ending}"): bounds[bound]
        for name, bounds in savings.items()
        if name.endswith(f", {ending}")
    }
    if not cases:
        return ""
    rule, fewer = ([case.get(key, 0.0) for case in cases.values()] for key in ("saved", "fewer_saved"))
    exact = [case["exact"] for case in cases.values() if "exact" in case]
    of_it = f" ({span(exact)} % already at threshold 0)" if exact else ""
    ahead = {name for name, case in cases.items() if case.get("saved", 0.0) > case.get("fewer_saved", 0.0)}
    pixels = {name for name, case in cases.items() if case.get("beyond_pixel", 0.0) > 0}
    by_pixel = f" Cases in which it does so by whole pixels or points: {where(pixels, cases)}." if exact else ""
    limit = float(bound.split()[0])
    kept, steps = (
        [name for name, case in cases.items() if case.get(key, math.inf) <= limit] for key in ("lost", "fewer_lost")
    )
    beyond = [cases[name]["saved"] - cases[name]["kept_saved"] for name in kept if "kept_saved" in cases[name]]
    best = f" ({span(beyond)} points more than with the fewest steps that stay within it)" if beyond else ""
    return (
        f"{what} at an allowed loss of {bound}, the rule skips {span(rule)} % of the work{of_it}, and fewer steps skip "
        f"{span(fewer)} %. Cases in which the rule skips more: {where(ahead, cases)}.{by_pixel} Cases in which the "
        f"loss stays within {bound} on the test, with the chosen threshold: {where(kept, cases)}{best}; with the "
        f"chosen number of steps: {where(steps, cases)}."
    )


def where(some: Collection[str], of_all: Collection[str]) -> str:
    """`none`, `all`, or the names."""
    if not some:
        return "none"
    return "all" if len(some) == len(of_all) else "; ".join(name for name in of_all if name in some)


def settling(found: Values) -> str:
    """When elements of states stop changing, over all networks, sets and parts that were followed."""
    parts = found["settling"].values()
    steps = [f"{share} % by step {span([values[f'p{share}'] for values in parts])}" for share in (5, 50, 95)]
    never = span([100 * values["unsettled"] for values in parts])
    return bullets(f"Of the elements of a state, {', '.join(steps)} have settled; {never} % never do.")


def paths(unit: Unit, found: Values) -> str:
    """Distances between the answers of each network, on its first set and with its first solver."""
    lines = []
    for network, sets in found.items():
        name, values = next(iter(sets.items()))
        solver = solvers_of(values)[0]
        error, twice, change, apart = (
            values[f"{solver}.{quantity}"] for quantity in ("error", "error_twice", "change", "random")
        )
        lines.append(
            f"`{network}` on {name}, {solver}: twice the evaluations change answers by {change:.2g} {unit.answer} and "
            f"their error ({unit.error}) from {error:.3f} to {twice:.3f}; answers from zero and from a random state "
            f"differ by {apart:.2g} {unit.answer}"
        )
    return bullets(*lines)


def vision(found: Values) -> str:
    """Networks compared with the best baseline."""
    lines = []
    for name, methods in found.items():
        metric = headline(methods[MDEQ])
        peers = {peer: values[metric] for peer, values in methods.items() if peer != MDEQ}
        best = max(peers, key=lambda peer: peers[peer], default=None)
        beside = "" if best is None else f"; best baseline ({best}) {peers[best]:.3f}"
        lines.append(f"{name}, {HEADLINES[metric]}: {MDEQ} {methods[MDEQ][metric]:.3f}{beside}")
    return bullets(*lines)


def stability(found: Values) -> str:
    """Changes by further evaluations in the networks with the two smallest N, by images."""
    last = max(int(key.split("_at_")[1].split("_")[0]) for key in found if "_at_" in key)
    counts = sorted({int(key.split(".")[1].split("-")[1]) for key in found})
    lines = []
    for count, (split, images) in product(counts[:2], IMAGES.items()):
        changes = [
            f"accuracy {signed(found, f'{name}.top1_at_{last}_change')} and loss "
            f"{signed(found, f'{name}.loss_at_{last}_change')} with {title}"
            for method, title in (("implicit", "the implicit gradient"), ("unrolled", "unrolling"))
            if (name := f"{split}.{method}-{count}") + ".top1" in found
        ]
        if changes:
            lines.append(
                f"Trained with N = {count}, change at {last} evaluations on {images} images: {'; '.join(changes)}."
            )
    return bullets(*lines)


def streaming(found: Values) -> str:
    """Warm and cold starts compared with the converged baseline."""
    lines = []
    for name in [name for name in ("street", "detect") if name in found]:
        runs = found[name]
        metric = headline(runs["converged"])
        base = runs["converged"][metric]
        changes = [f"{run} {runs[run][metric] - base:+.3f}" for run in ("warm 4", "cold 4", "warm 1", "cold 1")]
        adaptive = runs["adaptive"]
        lines.append(
            f"{name}, {HEADLINES[metric]} minus the converged baseline's {base:.3f}: {', '.join(changes)}; adaptive "
            f"{adaptive[metric] - base:+.3f} with {adaptive['evaluations']:.1f} evaluations per frame"
        )
    return bullets(*lines)


def sequence(found: Values) -> str:
    """Equilibrium networks compared with n-grams and with the unrolled layer."""
    lines = []
    for text, methods in found["scores"].items():
        counted = {name: values for name, values in methods.items() if name.startswith("Kneser-Ney")}
        best = min(counted, key=lambda name: counted[name]["perplexity"])
        own = [f"{name} {methods[name]['perplexity']:.2f}" for name in methods if name not in counted]
        lines.append(
            f"{text}, perplexity: {', '.join(own)}; best n-gram model ({best}) {counted[best]['perplexity']:.2f}"
        )
    for method, solvers in found["sweeps"].items():
        for solver, steps in solvers.items():
            if solver in ("plain", "unrolled"):
                last = max(map(int, steps))
                first = max(1, last // 4)
                early, late = (steps[str(step)]["perplexity"] for step in (first, last))
                lines.append(
                    f"{method}, {solver}: perplexity {early:.2f} after {first} evaluations, {late:.2f} after {last}"
                )
    return bullets(*lines)


def share(part: Sequence[str], whole: Sequence[str]) -> str:
    """`2 of 4`."""
    return f"{len(part)} of {len(whole)}"


def changed(percent: float, what: str) -> str:
    """`20 % fewer evaluations`, `39 % more error`."""
    if f"{abs(percent):.0f}" == "0":
        return f"the same number of {what}" if what == "evaluations" else f"the same {what}"
    fewer = "fewer" if what == "evaluations" else "less"
    return f"{abs(percent):.0f} % {'more' if percent > 0 else fewer} {what}"


def span(values: Sequence[float]) -> str:
    """`66 to 72`, or one number where both ends round to it."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def signed(found: Values, name: str) -> str:
    """`-0.022 ± 0.005`."""
    deviation = f" ± {found[f'{name}_std']:.3f}" if f"{name}_std" in found else ""
    return f"{found[name]:+.3f}{deviation}"


def bullets(*lines: str) -> str:
    """A Markdown list of the lines that are not empty."""
    return "\n".join(f"- {line}" for line in lines if line)
