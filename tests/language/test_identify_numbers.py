"""Regression written as text: exact distributions over whole numbers, prompts, and the learner behind the answers.

The second road to a distribution is a loop over all numbers: for each a whole forward pass of the text, no cache, no
tree, the tokens taken from the text as it stands.
"""

import json
import re
from dataclasses import replace

import pytest
import torch
from tests.language.architectures import VOCABULARY, model
from tests.papers.made_up_numbers import reading_of

from insitu import InputError, Prompt, Seed
from insitu.identification import Answered
from insitu.identification.evidence import gather
from insitu.identification.fitting import Fit, rounded
from insitu.identification.properties import properties
from insitu.identification.scoring import noise_of, predicted
from insitu.identification.spectra import PromptView
from insitu.language import LanguageModel
from insitu.language.models import forwards
from insitu.language.numbers import NumberLines, NumberPlan, NumberReader, identify_language_model
from insitu.language.numbers.candidates import FromOrigin, Origin, OriginFamily, Rounded, number_families
from insitu.language.numbers.identify import Reading, identified
from insitu.language.numbers.plan import ORDINARY, OUTLIER, PERMUTED, NumberEpisode
from insitu.language.numbers.reading import NumberAnswers
from insitu.language.numbers.stored import StoredAnswers
from insitu.learners import KernelSmoother, LeastSquares, Mean, Ridge

LINES = NumberLines(low=0, high=29, start="", separator=",", middle=">", end=";")
PLAN = NumberPlan(points=(3, 5), count=16, lines=LINES)


class Tokens:
    """A tokeniser whose tokens are the matches of an expression; a text without any is unknown."""

    all_special_ids = (0, 1, 2)

    def __init__(self, expression):
        self.expression, self.known = re.compile(expression), ["<pad>", "<end>", "<unk>"]
        for text in (*map(str, range(30)), ">", ",", ";", "a"):
            self.known += [t for t in self.expression.findall(text) if t not in self.known]

    def __len__(self):
        return VOCABULARY

    def __call__(self, text, **_):
        from transformers import BatchEncoding

        found = self.expression.findall(text)
        return BatchEncoding({"input_ids": [self.known.index(t) if t in self.known else 2 for t in found]})

    def decode(self, ids):
        return "".join(self.known[i] for i in ids if i < len(self.known))


DIGITS, WHOLE = Tokens("."), Tokens(r"\d+|.")


def language_model(name, tokenizer):
    return LanguageModel(name, model(name, torch.float64).network, tokenizer)


def plainly(lm, lines, whole):
    """The log-probability of every number behind every query, one whole sequence after the other."""
    rows = []
    for xs, ys, queries in zip(whole.xs.long().tolist(), whole.ys.long().tolist(), whole.queries.tolist(), strict=True):
        examples = "".join(f"{','.join(map(str, x))}>{y[0]};" for x, y in zip(xs, ys, strict=True))
        for query in queries:
            stem = examples + ",".join(str(int(q)) for q in query) + ">"
            row = []
            for number in lines.numbers:
                known, ids = len(lm.encode(stem)), lm.encode(f"{stem}{number};")
                logs = lm.network(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
                row.append(sum(logs[i - 1, ids[i]] for i in range(known, len(ids))))
            rows.append(torch.stack(row))
    return torch.stack(rows).view(whole.batch, -1, len(lines.numbers))


@pytest.mark.parametrize("tokenizer", [DIGITS, WHOLE], ids=["digits", "whole numbers"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
@torch.no_grad()
def test_distributions_are_those_of_a_plain_loop_over_all_numbers(name, tokenizer):
    lm = language_model(name, tokenizer)
    whole = PLAN.ordinary(Seed(0)).first(2).whole
    answers = NumberReader(lm, LINES).answers(whole)
    expected = plainly(lm, LINES, whole)
    torch.testing.assert_close(answers.logs, expected, rtol=1e-8, atol=1e-8)
    shares = expected.exp() / expected.exp().sum(-1, keepdim=True)
    mean = (shares * torch.arange(30)).sum(-1)
    torch.testing.assert_close(answers.mean, mean)
    torch.testing.assert_close(answers.spread, ((shares * torch.arange(30) ** 2).sum(-1) - mean**2).sqrt())
    torch.testing.assert_close(answers.mass, expected.exp().sum(-1))


def test_answers_are_kept_to_the_last_bit(tmp_path, monkeypatch):
    """Kept answers are those of a fresh reading, and only of the same weights and prompts."""
    llama = language_model("llama", DIGITS)
    reader, whole = NumberReader(llama, LINES), PLAN.draw(Seed(0))[0].first(2).whole
    changed = NumberReader(llama, LINES, {n: w + 0.01 for n, w in llama.network.named_parameters()})
    fresh = reader.answers(whole).logs
    for one in (reader, changed):
        StoredAnswers(tmp_path).read(one, whole, lambda: None)
    assert len(list((tmp_path / "records").iterdir())) == 2
    monkeypatch.setattr(NumberReader, "answers", None)
    again = StoredAnswers(tmp_path, resume=True)
    assert torch.equal(again.read(reader, whole, lambda: None).logs, fresh)
    assert not torch.equal(again.read(changed, whole, lambda: None).logs, fresh)
    with pytest.raises(TypeError):
        again.read(reader, PLAN.draw(Seed(1))[0].whole, lambda: None)
    with pytest.raises(TypeError):
        StoredAnswers(tmp_path).read(reader, whole, lambda: None)


@pytest.mark.parametrize("dim", [2, 3])
@torch.no_grad()
def test_inputs_of_several_dimensions_are_read_alike(dim):
    lm = language_model("llama", DIGITS)
    whole = replace(PLAN, dim=dim, points=(3,)).ordinary(Seed(1)).first(1).whole
    torch.testing.assert_close(NumberReader(lm, LINES).answers(whole).logs, plainly(lm, LINES, whole))


SABOTEURS = {
    "numbers see each other": lambda seen, positions: (seen | True, positions),
    "digits behind one another": lambda seen, positions: (seen, torch.arange(positions.shape[1]) + 0 * positions + 8),
}


@pytest.mark.parametrize("saboteur", SABOTEURS)
@torch.no_grad()
def test_a_wrong_walk_is_another_distribution(saboteur, monkeypatch):
    lm, right = language_model("llama", DIGITS), forwards.branch_mask
    whole = PLAN.ordinary(Seed(0)).first(1).whole
    reader = NumberReader(lm, LINES)
    expected = reader.answers(whole).mean
    monkeypatch.setattr(forwards, "branch_mask", lambda *given: SABOTEURS[saboteur](*right(*given)))
    assert (reader.answers(whole).mean - expected).abs().max() > 1e-3


@torch.no_grad()
def test_a_number_ends_where_the_model_says_so():
    """Without the end, 2 would have the mass of 2 and of all that begin with it."""
    lm = language_model("llama", DIGITS)
    reader = NumberReader(lm, LINES)
    whole = PLAN.ordinary(Seed(0)).first(1).whole
    question = reader.questions(whole, 0)[0]
    open_ended = forwards.Question(question.prompt, tuple((label, word[:-1]) for label, word in question.words))
    endless = reader.reader.answers([open_ended]).labels[0].exp()
    ended = reader.answers(whole).logs[0, 0].exp()
    assert (endless > ended).all()
    # 2 and 20 to 29 share the mass of what begins with the digit 2; without the end it would count twice.
    assert ended[2] + ended[20:30].sum() < endless[2] < endless[2] + endless[20:30].sum()


def test_numbers_that_a_tokeniser_does_not_keep_are_refused():
    blind = language_model("llama", Tokens("[a>,;]|1"))
    with pytest.raises(InputError, match=r"does not keep 0 apart: its tokens .* smollm2"):
        NumberReader(blind, LINES)
    joined = language_model("llama", Tokens(r";\d|\d|[>,;]"))
    with pytest.raises(InputError, match=r"joins the end of a line, ';', to the start of the next, '7>'"):
        NumberReader(joined, replace(LINES, start="7>"))


def test_prompts_that_cannot_be_read_are_refused():
    reader = NumberReader(language_model("llama", DIGITS), LINES)
    whole = PLAN.ordinary(Seed(0)).first(1).whole
    with pytest.raises(InputError, match=r"holds the number 2.5; expected one output and whole numbers from 0 to 29"):
        reader.answers(Prompt(whole.xs + 0.5 - whole.xs + 2, whole.ys, whole.queries))
    with pytest.raises(InputError, match="holds 2 outputs"):
        reader.answers(Prompt(whole.xs, whole.ys.repeat(1, 1, 2), whole.queries))
    with pytest.raises(InputError, match=r"a prompt of 40 examples has \d+ tokens and llama reads at most 96"):
        reader.answers(replace(PLAN, points=(40,)).ordinary(Seed(0)).first(1).whole)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 5, "high": 8}, r"the range 5 to 8 holds 4 whole numbers; expected 10 to 1000"),
        ({"low": -3}, "none of them negative"),
        ({"middle": " 0"}, r"middle is ' 0', which runs into the digits"),
        ({"end": ""}, "end is ''"),
    ],
)
def test_lines_that_cannot_be_read_back_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        NumberLines(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dim": 4}, "1 to 3 dimensions; got dim=4"),
        ({"count": 8}, "count"),
        ({"points": (1,)}, r"at least 2; got points=\(1,\)"),
    ],
)
def test_plans_out_of_range_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        NumberPlan(**given)


@pytest.mark.parametrize("dim", [1, 3])
def test_prompts_are_whole_numbers_of_the_range_and_follow_a_line(dim):
    plan = NumberPlan(dim=dim, points=(4, 30), count=64)
    longest, shortest = plan.draw(Seed(3))
    for episode in (longest, shortest):
        for values in (episode.whole.xs, episode.whole.ys, episode.whole.queries):
            assert torch.equal(values, values.round().clamp(0, 99))
    assert torch.equal(longest.whole.xs[:, :4], shortest.whole.xs[:64])
    fitted = Reading(longest, NumberAnswers(torch.zeros(64, 2, 100), range(100)), plan.lines).by(
        LeastSquares(intercept=True)
    )
    # Noise 2 and rounding, by 30 examples: an error of about 2 sqrt((d + 1) / 30), labels cut at the ends beside.
    assert (fitted - longest.truth)[: longest.names.count(ORDINARY)].square().mean().sqrt() < 2.5


def test_changed_prompts_are_what_their_names_say():
    plan = NumberPlan(points=(6,), count=16)
    (episode,) = plan.draw(Seed(0))
    of = {n: [i for i, m in enumerate(episode.names) if m == n] for n in dict.fromkeys(episode.names)}
    p = episode.whole
    pairs = torch.cat([p.xs, p.ys], -1)
    for i, j in enumerate(of[PERMUTED]):
        assert sorted(pairs[i].tolist()) == sorted(pairs[j].tolist())
    changed = (p.ys[of[OUTLIER]] != p.ys[:8]).sum(1)
    assert (changed == 1).all()
    shuffled = plan.shuffled(Seed(0)).whole
    assert torch.equal(shuffled.ys.sort(1).values, p.ys[:8].sort(1).values)
    assert torch.equal(shuffled.xs, p.xs[:8])


def test_orders_are_compared_although_whole_numbers_are_often_equal():
    plan = NumberPlan(points=(12,), count=16, lines=LINES)
    (episode,) = plan.draw(Seed(0))
    seen = LINES.prompt(episode.whole)
    whole = gather([Answered(seen, Mean().predict(seen), episode.names)])
    found = {p.name: p for p in properties(whole, noise_of(whole))}["the same in any order of the examples"]
    assert (found.pairs, found.holds) == (8, True)


TRUTHS = [
    Ridge(penalty=3.0, intercept=True),
    KernelSmoother(bandwidth=0.4),
    # A penalty that keeps its answers inside the range: those beyond it are clipped, which no learner does.
    FromOrigin(Ridge(penalty=5.0), Origin("the number 0", (-2.0, -2.0))),
]


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("truth", TRUTHS, ids=repr)
def test_a_learner_that_answers_in_whole_numbers_is_named(truth):
    plan = NumberPlan(points=(6, 12), count=16)
    readings = [reading_of(truth, plan, episode) for episode in plan.draw(Seed(0))]
    found = identified(readings, Seed(0))
    assert found.verdict == "indistinguishable"
    assert repr(found.best.learner) == repr(truth)


@pytest.mark.usefixtures("as_users_run")
def test_answers_that_are_rounded_are_seen():
    plan = NumberPlan(points=(12,), count=16)
    truth = Rounded(Mean(), plan.lines)
    readings = [reading_of(truth, plan, episode) for episode in plan.draw(Seed(0))]
    found = identified(readings, Seed(0))
    assert any(remark.startswith("its answers are rounded") for remark in found.remarks)
    assert repr(found.best.learner).endswith(", rounded")


@pytest.mark.parametrize("family", number_families(LINES), ids=lambda f: f"{type(f).__name__}-{f.example!r}"[:60])
def test_families_answer_as_their_learners(family):
    (episode,) = NumberPlan(points=(6,), count=16, lines=LINES).draw(Seed(0))
    view = PromptView(LINES.prompt(episode.whole))
    count, numbers = list(family.counts(view))[-1], tuple(f.grid(view)[1] for f in family.free)
    learner = family.learner(count, numbers)
    expected = predicted(learner, view.prompt)
    found = family.answers(view, count, numbers)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    if isinstance(family, OriginFamily):
        assert (family.size, family.whole) == (family.family.size, family.family.whole)


@pytest.fixture(scope="module")
def found():
    return identify_language_model(language_model("llama", DIGITS), PLAN, Seed(0))


def test_a_random_network_is_no_learner(found):
    assert found.verdict == "none"
    told = json.loads(json.dumps(found.as_json()))
    assert told["numbers"]["format"]["map"] == {"centre": 14.5, "scale": 7.25}
    assert [row["points"] for row in told["numbers"]["lengths"]] == [3, 5]
    assert set(told["numbers"]["controls"]) == {"shuffled labels", "untrained"}
    assert "a learner sees (number - 14.5) / 7.25" in str(found)
    assert repr(found).startswith("NumberIdentification(none")


def test_the_page_begins_with_answers_on_a_line(found, tmp_path):
    page = found.save_page(tmp_path).read_text()
    assert page.index("Answers on a line") < page.index("Error by length") < page.index("Ranking")
    assert (tmp_path / "figures" / "answers-on-a-line.svg").exists()


def test_the_front_door_takes_a_language_model(monkeypatch):
    import insitu

    asked = {}
    monkeypatch.setattr(
        "insitu.language.numbers.identify_language_model", lambda model, plan, seed: asked.update(plan=plan) or "found"
    )
    assert insitu.identify(language_model("llama", DIGITS), points=(4,)) == "found"
    assert asked["plan"] == NumberPlan(points=(4,))
    assert isinstance(asked["plan"].draw(Seed(0))[0], NumberEpisode)


def test_a_learner_that_is_far_from_the_answers_has_six_digits_whatever_it_measures_from():
    place = (1 / 3, -2.0)
    fit = Fit(FromOrigin(Ridge(penalty=0.04325651608192558), Origin("there", place)), 1, 1.0, named=lambda _: Mean())
    assert rounded(fit).learner == FromOrigin(Ridge(penalty=0.0432565), Origin("there", place))
