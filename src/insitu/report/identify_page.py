"""The page and the table of an identification: its ranking, its diagnostics, implied weights, and layers read out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from insitu.figure import Figure, Heatmap, Line, Panel, line
from insitu.identification import Answered, Candidate, Identification
from insitu.identification.evidence import Evidence, gather
from insitu.identification.gains import GainCurve
from insitu.identification.implied_weights import fitted_weights, gradient_weights
from insitu.identification.layer_maps import IterateMap, iterate_map, untrained
from insitu.identification.properties import Property
from insitu.identification.result import MixturePart
from insitu.identification.scoring import Departure, predicted
from insitu.learners import GradientDescent
from insitu.models import Network
from insitu.predictor import Predictor
from insitu.prompt import Prompt
from insitu.report.document import document, write_drawing
from insitu.report.figures import Drawing, draw
from insitu.report.markup import Html, element, join
from insitu.report.numbers import NONE, interval_text, number
from insitu.report.tables import cells, stacked_table
from insitu.seed import Seed
from insitu.storage import require_folder, write_atomically

__all__ = ["as_html", "as_text", "write_page"]

# The colours and signs that the report has for verdicts.
LOOKS = {
    "indistinguishable": ("holds", "✓"),
    "mixture": ("holds", "✓"),
    "closest": ("undecided", "○"),
    "none": ("fails", "✕"),
}
SHOWN, LONG = 8, 90
# Candidates that a page does not fold.
NEAR = 12
# Points of a scatter, and the prompts whose layers are read out.
POINTS, READ = 400, 400
MOST_LAYERS = 24
# Where distances of nothing but rounding are drawn: further down they would press all others into one line.
LEAST = 1e-6
# Digits at which the colours end.
DIGITS = 6


def as_text(identification: Identification) -> str:
    """The verdict, the best numbers and the ranking, as plain text."""
    lines = [identification.reason, ""]
    if identification.properties:
        lines += ["whatever it is, it is", *(f"  {property_text(p)}" for p in identification.properties), ""]
    if identification.mixture is not None:
        lines += ["its parts, at 99 %:", *(line for part in identification.mixture.parts for line in part_lines(part))]
        lines.append("")
    elif identification.best.parameters:
        lines += ["its numbers, at 99 %:", *(f"  {p}" for p in identification.best.parameters[:SHOWN])]
        hidden = len(identification.best.parameters) - SHOWN
        lines += [f"  and {hidden} more (--json has them all)"] * (hidden > 0) + [""]
    lines.append(f"{'distance':>10}  {'interval':<22}  learner")
    for candidate in identification.ranking[:SHOWN]:
        score = candidate.score
        lines.append(f"{score.distance:>10.3g}  [{score.low:.3g}, {score.high:.3g}]".ljust(36) + cut(candidate))
    named = "the mixture" if identification.mixture is not None else cut(identification.best)
    lines += ["", f"on the diagnostics, {named}:"]
    lines += [f"{d.distance:>10.3g}  {state(d):<22}  {d.name}, n = {d.points}" for d in identification.diagnostics]
    return "\n".join([*lines, *(f"note: {remark}" for remark in identification.remarks)])


def as_html(identification: Identification) -> str:
    """What a notebook shows: the verdict and the ranking."""
    return element(
        "div",
        element("p", element("strong", identification.verdict), " ", identification.reason),
        ranking(identification),
    )


def state(given: Departure) -> str:
    """What a diagnostic says of a candidate."""
    return "within the floor" if given.within else "departs" if given.departs else "not told apart"


def property_text(given: Property) -> str:
    """A property in words."""
    if given.holds is None:
        return f"{given.name}: noise does not tell (it may differ by {100 * given.high:.2g} %)"
    if given.holds:
        return f"{given.name}: yes" + (f", within {100 * given.high:.2g} %" if given.high > 1e-6 else "")
    return f"{given.name}: no, it differs by {100 * given.discrepancy:.3g} %"


def part_lines(part: MixturePart) -> list[str]:
    """A part of a mixture in words: its weight, then its numbers."""
    return [f"  {part.weight}: {part.learner!r}", *(f"    {interval}" for interval in part.parameters)]


def cut(candidate: Candidate) -> str:
    text = repr(candidate.score.learner)
    return text if len(text) <= LONG else text[: LONG - 1] + "…"


def write_page(
    path: Path,
    identification: Identification,
    answered: Sequence[Answered],
    model: Predictor | None = None,
    *,
    front: Mapping[str, Figure] | None = None,
    lead: Sequence[str] = (),
) -> Path:
    """Write a page and its figures.

    Args:
        path: A folder, in which the page is ``identification.html``, or the name of the page; figures lie beside it.
        identification: The identification.
        answered: The answers that it is about.
        model: The model itself, where there is one: its implied weights are then gradients, and a network's layers
            are read out.
        front: Figures with which the page begins.
        lead: Sentences that stand before them.

    Raises:
        StorageError: If a file cannot be written.
    """
    folder, name = (path.parent, path.name) if path.suffix == ".html" else (path, "identification.html")
    require_folder(folder)
    whole = gather(answered)
    figures = dict(front or {}) | {
        "gain-curves": gains_figure(identification),
        "implied-weights": weights_figure(identification, answered, model),
        "context-lengths": lengths_figure(identification),
    }
    if isinstance(model, Network):
        figures["layers"] = layers_figure(model, identification, answered)
    drawings = {name: draw(figure) for name, figure in figures.items() if figure is not None}
    for title, drawing in drawings.items():
        write_drawing(folder, title, drawing)
    shown = {title: figure_element(title, figures[title], drawing) for title, drawing in drawings.items()}
    first = [shown.pop(title) for title in front or ()]
    write_atomically(folder / name, page(identification, whole, shown, first, lead))
    return folder / name


def page(
    identification: Identification,
    whole: Evidence,
    figures: dict[str, Html],
    front: Sequence[Html],
    lead: Sequence[str],
) -> bytes:
    """The whole page: what any model shows first, then what it is named."""
    look, sign = LOOKS[identification.verdict]
    badge = element(
        "span",
        element("span", sign, class_="sign", aria_hidden="true"),
        identification.verdict,
        class_=f"verdict {look}",
    )
    opening = element(
        "header",
        element("p", "insitu identify", class_="kicker"),
        element("h1", "Which learner is it?"),
        element("p", badge),
        element("p", identification.reason, class_="lead"),
        element("p", setting(identification, whole), class_="source"),
        *(element("p", sentence) for sentence in lead),
    )
    first = [figures[name] for name in ("gain-curves",) if name in figures]
    others = [html for name, html in figures.items() if name != "gain-curves"]
    shown = (
        properties_table(identification),
        *first,
        mixture_table(identification),
        parameters(identification),
        ranking(identification),
    )
    parts = (opening, *front, remarks(identification), *shown, diagnostics(identification), *others)
    return document(identification.verdict, *parts)


def setting(identification: Identification, whole: Evidence) -> str:
    lengths = ", ".join(str(block.view.prompt.points) for block in whole.blocks)
    prompt = whole.blocks[0].view.prompt
    noise = f"; noise of the answers {number(identification.noise)} of their square" if identification.noise else ""
    return (
        f"{identification.prompts} prompts ({identification.kind}) of {lengths} examples in {prompt.dim} dimensions, "
        f"{prompt.queries.shape[1]} queries each; half fit the candidates, half score them{noise}."
    )


def remarks(identification: Identification) -> Html:
    if not identification.remarks:
        return Html()
    return element("div", *(element("p", remark) for remark in identification.remarks), class_="notice")


def section(title: str, *parts: str) -> Html:
    return element("section", element("h2", title), *parts)


def expression(candidate: Candidate) -> Html:
    """The learner as it prints; a long one folded."""
    text = repr(candidate.score.learner)
    if len(text) <= LONG:
        return element("code", text)
    return element("details", element("summary", element("code", cut(candidate))), element("code", text))


def parameters(identification: Identification) -> Html:
    """The free numbers of the best candidate."""
    named = identification.best.parameters
    if not named:
        return Html()
    columns = ("Number", "Value", "Interval")
    body = [
        element("tr", *cells(columns, (p.name, number(p.value, 6), interval_text(p.low, p.high))), role="row")
        for p in named
    ]
    table = stacked_table(columns, [element("tbody", *body, role="rowgroup")], "checks")
    if len(named) > 2 * SHOWN:
        table = element("details", element("summary", f"{len(named)} numbers"), table)
    return section("Its numbers", table)


def properties_table(identification: Identification) -> Html:
    """Symmetries of the answers, whatever they are named."""
    if not identification.properties:
        return Html()
    columns = ("The answer is", "Holds", "Differs by", "Interval", "Pairs")
    words = {True: "yes", False: "no", None: "noise does not tell"}
    body = [
        element(
            "tr",
            *cells(
                columns,
                (p.name, words[p.holds], number(p.discrepancy, 3), interval_text(p.low, p.high), str(p.pairs)),
            ),
            role="row",
        )
        for p in identification.properties
    ]
    text = (
        "Pairs of prompts that differ in one thing: |f − f′|² / (|f|² + |f′|²), 0 for equal answers, noise taken off."
    )
    table = stacked_table(columns, [element("tbody", *body, role="rowgroup")], "checks")
    return section("What it shows", element("p", text), table)


def mixture_table(identification: Identification) -> Html:
    """The parts of a mixture, with their weights by context length."""
    if identification.mixture is None:
        return Html()
    lengths = sorted(identification.mixture.parts[0].by_length)
    columns = ("Learner", "Weight", "Interval", *(f"n = {n}" for n in lengths), "Its numbers")
    body = []
    for part in identification.mixture.parts:
        by_length = (number(part.by_length[n].value, 3) for n in lengths)
        weight = (number(part.weight.value, 3), interval_text(part.weight.low, part.weight.high))
        named = ", ".join(f"{p.name} in {interval_text(p.low, p.high)}" for p in part.parameters) or NONE
        values = (element("code", repr(part.learner)), *weight, *by_length, named)
        body.append(element("tr", *cells(columns, values), role="row"))
    return section("Its parts", stacked_table(columns, [element("tbody", *body, role="rowgroup")], "checks"))


def ranking(identification: Identification) -> Html:
    """Every candidate, the nearest first; those that are far are folded."""
    introduction = element(
        "p",
        "Distance is E|f − g|² / E|f|² on held-out prompts, every diagnostic counting alike; intervals are at 99 %. "
        "Of weights: the same for implied weights, fitted to the answers over the queries of a prompt.",
    )
    near, far = identification.ranking[:NEAR], identification.ranking[NEAR:]
    parts = [introduction, ranking_table(near)]
    if far:
        parts.append(element("details", element("summary", f"{len(far)} more"), ranking_table(far)))
    return section("Ranking", *parts)


def ranking_table(candidates: Sequence[Candidate]) -> Html:
    """Candidates with their distances, one in a row."""
    columns = ("Distance", "Interval", "Correlation", "Of weights", "Learner")
    body = [element("tr", *cells(columns, ranking_row(c)), role="row") for c in candidates]
    return stacked_table(columns, [element("tbody", *body, role="rowgroup")], "checks")


def ranking_row(candidate: Candidate) -> tuple[str, ...]:
    """What the ranking says of a candidate."""
    score = candidate.score
    of_weights = number(score.weights[0], 3) if score.weights else NONE
    interval = interval_text(score.low, score.high)
    return number(score.distance, 3), interval, number(score.correlation, 4), of_weights, expression(candidate)


def diagnostics(identification: Identification) -> Html:
    """The best candidate and the next two on every diagnostic."""
    rivals = identification.ranking[1:3]
    columns = ("Diagnostic", "Distance", "Floor", "Finding", *(f"Rival {i + 1}" for i in range(len(rivals))))
    body = []
    for i, d in enumerate(identification.diagnostics):
        others = (number(r.score.departures[i].distance, 3) for r in rivals)
        row = (f"{d.name}, n = {d.points}", number(d.distance, 3), number(d.floor + d.noise, 3), state(d), *others)
        body.append(element("tr", *cells(columns, row), role="row"))
    named = "the mixture" if identification.mixture is not None else cut(identification.best)
    paragraphs = [element("p", "What is named: ", element("code", named), ".")]
    paragraphs += [element("p", f"Rival {i + 1}: ", element("code", cut(r)), ".") for i, r in enumerate(rivals)]
    table = stacked_table(columns, [element("tbody", *body, role="rowgroup")], "checks")
    return section("Diagnostics", *paragraphs, element("div", table, class_="scroll"))


def gains_figure(identification: Identification) -> Figure | None:
    """The gain at every context length, with its band."""
    if not identification.gains:
        return None
    panels = [gain_panel(curve) for curve in identification.gains]
    left = ", ".join(f"{100 * curve.unexplained:.2g} % at n = {curve.points}" for curve in identification.gains)
    return Figure(
        tuple(panels),
        "By which factor the labels are fitted along directions of the examples, against the size σ/√n of the "
        "direction. Least squares fits all of them (1), ridge and descent small ones less, components not at all. What "
        f"no such curve explains: {left}; where that is much, the model is no filter of the examples' moments.",
        "Rising curves between 0 and 1, one panel for each context length.",
    )


def gain_panel(curve: GainCurve) -> Panel:
    measured = line("", curve.sizes, curve.gains, low=curve.low, high=curve.high)
    levels = [Line("", (curve.sizes[0], curve.sizes[-1]), (y, y), look="dotted", colour=-1) for y in (0.0, 1.0)]
    return Panel("size of the direction, σ/√n", "gain", (measured, *levels), title=f"n = {curve.points}")


def figure_element(name: str, figure: Figure | None, drawing: Drawing) -> Html:
    files = join(*(element("a", kind.upper(), href=f"figures/{name}.{kind}") for kind in ("svg", "pdf")), by=" · ")
    caption = element("figcaption", figure.caption if figure else "", " ", element("span", files, class_="files"))
    return section(name.replace("-", " ").capitalize(), element("figure", drawing.inline, caption))


def weights_figure(
    identification: Identification, answered: Sequence[Answered], model: Predictor | None
) -> Figure | None:
    """Implied weights of the model against those of the best candidate, one panel for each context length."""
    panels = []
    for given in answered:
        prompt = part(given.prompt.to(torch.float64), POINTS // given.prompt.dim + 1)
        answers = given.answers[: prompt.batch].double()
        if isinstance(model, Network):
            theirs, own = (gradient_weights(m, prompt)[:, 0].detach() for m in (identification.best.learner, model))
        elif prompt.queries.shape[1] >= prompt.dim:
            theirs, own = (fitted_weights(prompt, a) for a in (predicted(identification.best.learner, prompt), answers))
        else:
            continue
        panels.append(scatter(theirs, own, f"n = {prompt.points}"))
    if not panels:
        return None
    how = "gradients of answers by queries" if isinstance(model, Network) else "fits of answers over queries"
    return Figure(
        tuple(panels),
        f"Implied weights ({how}) of the model against those of {cut(identification.best)}; on the line they agree.",
        "Points of implied weights, one panel for each context length, beside the line of equality.",
    )


def part(prompt: Prompt, count: int) -> Prompt:
    return Prompt(prompt.xs[:count], prompt.ys[:count], prompt.queries[:count])


def scatter(theirs: Tensor, own: Tensor, title: str) -> Panel:
    x, y = theirs.flatten()[:POINTS], own.flatten()[:POINTS]
    ends = [x.min().item(), x.max().item()]
    equal = Line("", tuple(ends), tuple(ends), look="dotted", colour=-1)
    return Panel(
        "weights of the candidate", "weights of the model", (line("", x, y, look="points"), equal), title=title
    )


def lengths_figure(identification: Identification) -> Figure | None:
    """The distance of the best candidates by context length."""
    lengths = sorted({d.points for d in identification.diagnostics})
    if len(lengths) < 2:
        return None
    lines = []
    for colour, candidate in enumerate(identification.ranking[:4]):
        by_length = [[d.distance for d in candidate.score.departures if d.points == n] for n in lengths]
        heights = [max(sum(values) / len(values), LEAST) for values in by_length]
        lines.append(line(cut(candidate), lengths, heights, colour=colour))
    panel = Panel("examples in the context", "distance", tuple(lines), x_scale="log", y_scale="log")
    caption = "Distance by context length, mean over its diagnostics; what is below 10⁻⁶ is drawn there."
    return Figure((panel,), caption, "Distances of four candidates.")


def layers_figure(network: Network, identification: Identification, answered: Sequence[Answered]) -> Figure | None:
    """Every layer's state read out onto iterates, and the same for a network with random weights."""
    layers = network.architecture.layers
    prompt = part(max((a.prompt for a in answered), key=lambda p: p.points), READ)
    if (
        layers < 2
        or layers > MOST_LAYERS
        or prompt.batch // 2 * prompt.queries.shape[1] <= 2 * network.architecture.width
    ):
        return None
    rate = rate_of(identification, prompt)
    maps = iterate_map(network, prompt, rate=rate)
    (control,) = untrained(network, Seed(0) / "control")
    controls = iterate_map(control, prompt, rate=rate)
    panels = [heat(m, m.algorithm) for m in maps] + [heat(m, f"{m.algorithm}, control") for m in controls]
    return Figure(
        tuple(panels),
        f"How many decimal digits of each iterate's answers (columns, rate {rate:.3g}) a linear read-out of each "
        "layer's state (rows, the embedding first) explains on held-out prompts: −log₁₀ of the share that it leaves, "
        f"at most {DIGITS}. Below the control, random weights of equal size.",
        "Maps of layers against iterates of three algorithms, for the network and for a random one.",
    )


def rate_of(identification: Identification, prompt: Prompt) -> float:
    """The fitted rate of descent; half the step-size limit of the prompts where no descent was fitted."""
    for candidate in identification.ranking:
        learner = candidate.learner
        if isinstance(learner, GradientDescent) and isinstance(learner.rate, float) and learner.preconditioner is None:
            return learner.rate
    return 1 / prompt.xs.double().square().sum(-1).mean().item()


def heat(given: IterateMap, title: str) -> Panel:
    # Iterates lie close to one another: only the digits that are explained show which one a layer holds.
    values = -given.unexplained.clamp(min=10.0**-DIGITS, max=1.0).log10()
    columns = "part of the examples read" if given.algorithm == "online descent" else "iterate"
    rows = tuple(tuple(row) for row in values.tolist())
    return Panel(columns, "layer", heatmap=Heatmap(rows, limit=DIGITS, first=(0, 1)), title=title)
