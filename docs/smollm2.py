"""Measures what the gallery shows of SmolLM2, which the build of the site may not have.

python docs/smollm2.py             both (about half an hour on one core); an interrupted run goes on where it was
python docs/smollm2.py line        its answers along a line of numbers (half a minute)
python docs/smollm2.py orders      the order sensitivity of in-context learning and along fine-tuning
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

import insitu
from insitu import Prompt, Seed
from insitu.language import Descent, LanguageModel, load_corpus, load_template
from insitu.language.measure.bench import set_up
from insitu.language.measure.order import Orders, order_sensitivity
from insitu.language.numbers import NumberLines, NumberReader

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "smollm2"
LINES = NumberLines()
SEED = Seed(0) / "gallery"
# The rate is that of the claims on SmolLM2 (insitu.papers.shen2024), so that only the epochs are new.
ORDERS = Orders(shots=8, sets=2, orders=4, descents=(Descent(5e-4), Descent(5e-4, 1)), epochs=(1, 2, 4, 8))
SHOWN = ("Sen", "KL from the start", "accuracy")


def numbers_on_a_line(points: int = 16) -> Prompt:
    """Noisy examples of one straight line in the middle of the range, and queries all along it."""
    xs = 15 + 70 * (SEED / "inputs").uniform(points, 1)
    ys = 12 + 0.8 * xs + 3 * (SEED / "noise").normal(points, 1)
    queries = torch.arange(LINES.low, LINES.high + 1, 3, dtype=torch.float64)[:, None]
    return Prompt(*(t.round().clamp(LINES.low, LINES.high)[None] for t in (xs, ys, queries)))


def line(model: LanguageModel) -> dict[str, Any]:
    """The mean and the standard deviation of the number that the model says at every query."""
    prompt = numbers_on_a_line()
    answers = NumberReader(model, LINES).answers(prompt)
    shown = {name: getattr(prompt, name)[0, :, 0].tolist() for name in ("xs", "ys", "queries")}
    said = {name: [round(v, 3) for v in getattr(answers, name)[0].tolist()] for name in ("mean", "spread")}
    return {"model": model.name, "lines": LINES.as_json(), **shown, **said}


def orders(model: LanguageModel) -> dict[str, Any]:
    """The measures of every set of demonstrations and way of training, at every epoch."""
    corpus, template = load_corpus("mr"), load_template("mr")
    bench = set_up(model, corpus, template, SEED, shots=ORDERS.shots, items=12, longest=14)
    rows = []
    for done, total, record in order_sensitivity(bench, ORDERS, ROOT / "build" / "smollm2", resume=True):
        measures = {name: [float(f"{v:.4g}") for v in record["measures"][name]] for name in SHOWN}
        rows.append({"set": record["set"], "arm": record["arm"], "measures": measures})
        sys.stderr.write(f"{done} of {total}: {record['arm']}\n")
    about = {"shots": ORDERS.shots, "orders": ORDERS.orders, "epochs": ORDERS.epochs, "items": 12}
    return {"model": model.name, **about, "rows": rows}


def main(names: list[str]) -> None:
    """Measure and store."""
    model = insitu.load("smollm2")
    for measure in (line, orders):
        if measure.__name__ in (names or ("line", "orders")):
            text = json.dumps(measure(model), separators=(",", ":"))
            (RESULTS / f"{measure.__name__}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
