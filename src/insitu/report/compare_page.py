"""The page of ``insitu lm compare``: a pure function of records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from insitu.figure import Figure, Line, Panel, line
from insitu.language.measure.decision import CONFIDENCE, Bounded, Decision, Procedure, chosen_training, decide
from insitu.language.measure.readings import ICL, ZERO_SHOT
from insitu.report.conclusion import calibration, collapses, conclusion, cost, dependence, full_batch, headline, share
from insitu.report.lm_records import (
    Records,
    arms_of,
    curve,
    descents_of,
    epochs_of,
    fallback_of,
    measures_of,
    shots_of,
    values,
    with_error,
)
from insitu.report.numbers import NONE, number
from insitu.report.sections import PageTable, Section, counted, write_page

__all__ = ["compare_page", "conclusions", "decisions_as_json", "demonstrations", "summary_of_compare"]

SHOWN = (
    "accuracy",
    "restricted accuracy",
    "label mass",
    "token overlap",
    "overlap cosine (guarded)",
    "KL from reading",
    "KL from the start",
)
REFERENCES = ("another order", "other demonstrations", ZERO_SHOT, "untrained")
LEVELS = ("dashed", "dotted", "dashdotted", "points")


def summary_of_compare(records: Records) -> list[dict[str, Any]]:
    """A row for every number of demonstrations and arm: its measures at every epoch, and the errors over sets."""
    rows = []
    for shots in shots_of(records):
        for arm in arms_of(of_shots(records, shots)):
            looks = {name: values(records, shots, arm, name) for name in measures_of(records, arm)}
            rows.append(
                {
                    "shots": shots,
                    "arm": arm,
                    "epochs": epochs_of(of_shots(records, shots), arm),
                    "measures": {name: [e.value for e in own] for name, own in looks.items()},
                    "errors": {name: [e.error for e in own] for name, own in looks.items()},
                }
            )
    return rows


def of_shots(records: Records, shots: int) -> Records:
    return [r for r in records if r["shots"] == shots]


def decisions_as_json(records: Records) -> list[dict[str, Any]]:
    """The results for every number of demonstrations."""
    return [decide(records, shots).as_json() for shots in shots_of(records)]


def conclusions(records: Records) -> list[str]:
    """The recommendation for the largest number of demonstrations, then the evidence for it."""
    most = shots_of(records)[-1]
    decision = decide(records, most)
    sentences = [conclusion(decision), calibration(decision), dependence(decision, records), cost(decision)]
    return [*sentences, *collapses(records)]


def demonstrations(records: Records) -> list[str]:
    """The demonstrations that stood before every text, set by set."""
    sets = shown_sets(records)
    return [
        "\n".join((f"Set {number + 1}:", *(f"  [{d['label']}] {d['text']}" for d in shown)))
        for number, shown in sets.items()
    ]


def compare_page(records: Records, folder: Path) -> Path:
    """The page of ``insitu lm compare``; of records of the same arm and set the last one counts."""
    records = list({(r["shots"], r["set"], r["arm"]): r for r in records}.values())
    decisions = [decide(records, shots) for shots in shots_of(records)]
    first, *others = conclusions(records)
    sections = [
        Section("Why", (*others,), decision_table(decisions)),
        Section("Setting", setting_in_words(records), code=prompt_of(records)),
        Section("What the answers depend on", (VARIANCE,), variance_table(decisions, full_batch(records))),
        *chosen_sections(records),
        Section("Demonstrations", (SHOWN_TO_ALL,), demonstrations_table(records)),
        *paper_sections(records),
    ]
    if len(decisions) > 1:
        sections.insert(1, Section("Against the number of demonstrations", (), None, (decisions_figure(decisions),)))
    return write_page(folder, "compare", headline(decisions[-1]), first, sections)


VARIANCE = (
    "The variance of whether an answer is right, split into what the draw of demonstrations, their order, the text, "
    "and the text under these demonstrations add to it: crossed random effects, estimated from mean squares, negative "
    "estimates set to zero. With few sets the first is uncertain; a dash means that something was not varied."
)
SHOWN_TO_ALL = (
    "Every text was answered with the same demonstrations, in the order of this table and in others; a smaller "
    "number of demonstrations is the beginning of a set."
)
EXPLAINED = (
    "Accuracy is over the whole vocabulary, restricted accuracy over the label words alone; "
    "label mass is the probability of all label words. Overlaps and KL compare with in-context learning from them in "
    "the order drawn; 'another order' is the reference line of the paper. Errors are standard errors over sets."
)
HINDSIGHT = (
    "The paper's choice, which needs the correct answers: the rate, optimiser and epoch at which fine-tuning comes "
    "nearest to in-context learning. It is the most favourable one to the hypothesis that in-context learning is "
    "gradient descent."
)
INNER = (
    "SimAOU: cosine of the changes that in-context learning and fine-tuning make to the output of attention at the "
    "last token, with a random change as the reference. SimAM: cosine of attention scores on the question's own "
    "tokens, which is high without any training; that of their changes is not. Means over layers, heads and questions, "
    "at the last epoch."
)


# The decision


def decision_table(decisions: Sequence[Decision]) -> PageTable:
    """Every way of labelling with every number of demonstrations."""
    columns = ("accuracy", "calibration error", "Brier score", "tokens a text", "seconds a text", "seconds of training")
    rows = [decision_row(way, decision.shots) for decision in decisions for way in decision.procedures[1:]]
    return PageTable(("way of labelling", *columns), (decision_row(decisions[0].zero_shot, 0), *rows))


def decision_row(way: Procedure, shots: int) -> tuple[str, ...]:
    name = f"{way.name}, {counted(shots, 'demonstration')}" if shots else way.name
    bounds = way.accuracy
    return (
        name,
        f"{share(bounds.value)} [{100 * bounds.low:.0f}, {100 * bounds.high:.0f}]",
        ranged(way.calibration),
        ranged(way.brier),
        f"{way.tokens:.0f}",
        number(way.seconds, 2),
        number(way.training, 2) if way.training else NONE,
    )


def ranged(value: Bounded) -> str:
    return f"{number(value.value, 2)} [{number(value.low, 2)}, {number(value.high, 2)}]"


def variance_table(decisions: Sequence[Decision], summed: bool) -> PageTable:
    """Components of variance as shares of their sum; the order does nothing to training that sums over all."""
    rows = []
    for decision in decisions:
        for way in decision.procedures[1:]:
            parts = components_of(way)
            whole = sum(part for part in parts if part is not None)
            cells = [NONE if part is None else share(part / whole if whole else 0.0) for part in parts]
            if summed and way is decision.tuning:
                cells[1] = "0, a sum"
            rows.append((f"{way.name}, {counted(decision.shots, 'demonstration')}", *cells))
    columns = ("demonstrations", "their order", "text", "text × demonstrations", "text × order")
    return PageTable(("share of the variance", *columns), tuple(rows))


def components_of(way: Procedure) -> list[float | None]:
    c = way.components
    return [c.demonstrations, c.order, c.items, c.both, c.rest]


def decisions_figure(decisions: Sequence[Decision]) -> Figure:
    """Accuracy and Brier score of every way against the number of demonstrations, with intervals."""
    shots = [decision.shots for decision in decisions]
    panels = []
    for title, pick in (("accuracy", accuracy_of), ("Brier score", brier_of)):
        names = dict.fromkeys(way.name for decision in decisions for way in decision.procedures[1:])
        lines = [bounded_line(name, i, decisions, pick) for i, name in enumerate(names)]
        level = pick(decisions[0].zero_shot).value
        lines.append(line(ZERO_SHOT, shots, [level] * len(shots), look="dashed", colour=-1))
        panels.append(Panel("demonstrations", title, tuple(lines)))
    return Figure(
        tuple(panels),
        f"Ways of labelling against the number of demonstrations; bands are {share(CONFIDENCE)} intervals over "
        "demonstration sets and texts.",
        "Accuracy and Brier score of prompting and fine-tuning against the number of demonstrations.",
    )


def accuracy_of(way: Procedure) -> Bounded:
    return way.accuracy


def brier_of(way: Procedure) -> Bounded:
    return way.brier


def bounded_line(name: str, colour: int, decisions: Sequence[Decision], pick: Any) -> Line:
    pairs = [(d.shots, pick(way)) for d in decisions for way in d.procedures if way.name == name]
    shots, bounds = zip(*pairs, strict=True)
    ends = {"low": [b.low for b in bounds], "high": [b.high for b in bounds]}
    return line(name, shots, [b.value for b in bounds], colour=colour, **ends)


# The setting.


def setting_in_words(records: Records) -> tuple[str, ...]:
    """The model by its name and provenance, the data, and how prompts were made."""
    first = records[0]
    sets, items = len({r["set"] for r in records}), len(first["items"])
    provenance = f"; {first['provenance']}" if first["provenance"] else ""
    millions = f"{first['parameters'] / 1e6:,.1f} million parameters"
    words = [
        f"Model: {first['model']} ({first['architecture']}, {millions}{provenance}); {'; '.join(first['notes'])}.",
        f"{counted(items, 'question')} drawn from the test rows, {counted(sets, 'demonstration set')} from the train "
        f"rows; labels of the demonstrations: {first['labels']}. Answers are the likeliest of the labels. Intervals "
        f"({share(CONFIDENCE)}) are over demonstration sets and texts at once.",
    ]
    words += fallback_of(records)
    if first["chat template"] and not first["in turns"]:
        words.append(
            "This model was tuned on conversations and has a chat template, which is not used here: prompts are plain "
            "text. With --chat they are turns of a conversation."
        )
    words.append(f"The first question with {counted(shots_of(records)[-1], 'demonstration')} before it:")
    return tuple(words)


def prompt_of(records: Records) -> str:
    most = shots_of(records)[-1]
    return next(str(r["prompt"]) for r in records if r["arm"] == ICL and r["shots"] == most)


def demonstrations_table(records: Records) -> PageTable:
    rows = [
        (f"set {number + 1}, {place}", d["label"], d["text"])
        for number, shown in shown_sets(records).items()
        for place, d in enumerate(shown, start=1)
    ]
    return PageTable(("demonstration", "label", "text"), tuple(rows), prose=True)


def shown_sets(records: Records) -> dict[int, list[dict[str, str]]]:
    """The demonstrations of every set, in the order drawn."""
    most = shots_of(records)[-1]
    sets = {int(r["set"]): list(r["demonstrations"]) for r in records if r["arm"] == ICL and r["shots"] == most}
    return dict(sorted(sets.items()))


def chosen_sections(records: Records) -> list[Section]:
    """Which rate and epoch every set chose."""
    rows = []
    for shots in shots_of(records):
        for r in chosen_training(of_shots(records, shots)):
            losses = dict(zip(r["epochs"], r["development"], strict=False))
            loss = number(losses[r["chosen"]]["loss"], 3) if r["chosen"] in losses else NONE
            rows.append((f"{counted(shots, 'demonstration')}, set {r['set'] + 1}", r["arm"], str(r["chosen"]), loss))
    if not rows:
        return []
    words = (
        "Rate and epochs with the smallest cross-entropy among the labels on train rows that demonstrate nothing; the "
        "questions were not looked at. Epoch 0 is the untouched model, where training broke it at once.",
    )
    return [Section("Choice of rate and epochs", words, PageTable(("set", "training", "epoch", "loss"), tuple(rows)))]


# The paper's comparison


def paper_sections(records: Records) -> list[Section]:
    """Answers over the whole vocabulary, against those of in-context learning."""
    sections = [
        Section(
            f"Answers over the whole vocabulary, {counted(shots, 'demonstration')}",
            (EXPLAINED,) if i == 0 else (),
            arms_table(records, shots),
        )
        for i, shots in enumerate(shots_of(records))
    ]
    if any(len(epochs_of(records, arm)) > 1 for arm in descents_of(records)):
        pictures = tuple(epochs_figure(records, part) for part in parts_of(records))
        words = "Every epoch, with the largest number of demonstrations; the tables show the last one."
        sections.append(Section("Along training", (words,), None, pictures))
        sections.append(Section("Best in hindsight, as the paper reports", (HINDSIGHT,), best_table(records)))
    inner = list(dict.fromkeys(name for r in records for name in r["measures"] if name.startswith("Sim")))
    if inner:
        sections.append(Section("Hidden states", (INNER,), hidden_table(records, inner)))
    return sections


def hidden_table(records: Records, names: Sequence[str]) -> PageTable:
    most = shots_of(records)[-1]
    rows = [(arm, *(with_error(values(records, most, arm, n)[-1]) for n in names)) for arm in descents_of(records)]
    return PageTable((f"training, {counted(most, 'demonstration')}", *names), tuple(rows))


def arms_table(records: Records, shots: int) -> PageTable:
    arms = arms_of(of_shots(records, shots))
    rows = [(arm, *(with_error(values(records, shots, arm, name)[-1]) for name in SHOWN)) for arm in arms]
    return PageTable(("arm", *SHOWN), tuple(rows))


def parts_of(records: Records) -> list[str]:
    return list(dict.fromkeys(str(r["how"]["part"]) for r in records if "how" in r))


def best_table(records: Records) -> PageTable:
    rows = []
    for shots in shots_of(records):
        for name in ("token overlap", "accuracy"):
            looks = [
                (estimate.value, arm, epoch, estimate)
                for arm in descents_of(records)
                for epoch, estimate in zip(
                    epochs_of(of_shots(records, shots), arm), values(records, shots, arm, name), strict=True
                )
            ]
            _, arm, epoch, best = max(looks, key=lambda look: look[0])
            reference = {"token overlap": "another order", "accuracy": ICL}[name]
            cells = (with_error(best), arm, str(epoch), with_error(values(records, shots, reference, name)[0]))
            rows.append((f"{name}, {counted(shots, 'demonstration')}", *cells))
    return PageTable(("measure", "best of training", "by", "epoch", "in context"), tuple(rows))


def epochs_figure(records: Records, part: str) -> Figure:
    """Three measures along training, a curve for every way of training one part: the form of the paper's Figure 5."""
    shots = shots_of(records)[-1]
    arms = [a for a in descents_of(records) if any(r["arm"] == a and r["how"]["part"] == part for r in records)]
    epochs = {arm: epochs_of(of_shots(records, shots), arm) for arm in arms}
    most = max(epochs.values(), key=len)
    panels = []
    for name in ("accuracy", "token overlap", "overlap cosine (guarded)"):
        curves = [curve(arm, epochs[arm], values(records, shots, arm, name), i) for i, arm in enumerate(arms)]
        references = [ICL, ZERO_SHOT] if name == "accuracy" else [a for a in REFERENCES if a in arms_of(records)]
        levels = [
            level(arm, most, values(records, shots, arm, name)[0].value, len(arms) + i, LEVELS[i % len(LEVELS)])
            for i, arm in enumerate(references)
        ]
        panels.append(Panel("epochs", name, (*curves, *levels)))
    what = "the whole model" if part == "all" else f"the value matrix ({part}) alone"
    return Figure(
        tuple(panels),
        f"Training {what} on {counted(shots, 'demonstration')}, answered without them, against the same in context. "
        "What stays as it is along training: in-context learning, and its references.",
        f"Accuracy, token overlap and overlap cosine against epochs, for {len(arms)} ways of training {what}.",
    )


def level(arm: str, epochs: Sequence[int], value: float, colour: int, look: Any) -> Line:
    """A horizontal line."""
    return line(arm, epochs, [value] * len(epochs), look=look, colour=colour)
