r"""Answers to prompts, ready to be compared: diagnostics, halves, weights, and the floor below which nothing is said.

Evidence is a list of blocks, one for each context length. Every prompt of a block belongs to one diagnostic. Half of
the prompts of each diagnostic are for fitting and half for scoring; copies of a prompt stay together.

With answers f and a candidate's answers g, the distance on a diagnostic is :math:`E|f-g|^2 / E|f|^2`, and that of the
whole evidence the same number once the answers of every diagnostic are scaled to mean square one, so that each
diagnostic counts alike. With a single diagnostic the two are one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from insitu.errors import InputError
from insitu.identification.spectra import PromptView
from insitu.prompt import Prompt

__all__ = ["ALL", "INSIDE", "LEAST", "Answered", "Diagnostic", "Evidence", "LengthBlock", "gather"]

# The diagnostic of prompts that carry no name.
ALL = "all prompts"
# The diagnostic of prompts as the model was trained on.
INSIDE = "in distribution"
# Prompts below which there is no interval: eight for fitting, eight for scoring.
LEAST = 16
# Answers that are nearer to one another, beside the labels, are the same.
SAME = 1e-15
# Rounding: allowed relative deviations are this many times the precision times the sensitivity of a linear solve,
# and never more than a thousandth, whatever the conditioning.
SLACK, MOST_ROUNDING = 64.0, 1e-3
# A squared relative error below which nothing is made of a difference, however precise the answers: another order of
# the same sums, in another library, leaves more than the rounding of the stored numbers.
FLOOR = 1e-12
# Below so many different answers, their being numbers of half precision says nothing.
DIFFERENT = 64

# Mean squares of the answers to a prompt, relative to the median of its diagnostic, that are cut in their mean; and,
# relative to this mean, beyond which an iteration runs away.
LARGE, RUNAWAY = 10.0, 10.0

Kind = Literal["regression", "classes", "sequence"]


@final
@dataclass(frozen=True, eq=False)
class Answered:
    """Prompts of one context length with a model's answers.

    Args:
        prompt: The prompts.
        answers: The answers, in the dtype in which the model gave them.
        names: The diagnostic that each prompt belongs to; :data:`ALL` for every one where none is given.

    Raises:
        InputError: If the answers have another shape than the prompts ask for, are not finite, are all the same
            number, or the names are not one per prompt.
    """

    prompt: Prompt
    answers: Float[Tensor, "batch query out"]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wanted = (self.prompt.batch, self.prompt.queries.shape[1], self.prompt.out)
        if tuple(self.answers.shape) != wanted:
            raise InputError(
                f"the answers have shape {tuple(self.answers.shape)}; these prompts ask for {wanted}, (batch, query, "
                "out), one answer to every query of every prompt. Answer the same prompts, in their order."
            )
        wrong = (~self.answers.isfinite()).nonzero()
        if len(wrong):
            raise InputError(
                f"the answers hold {len(wrong)} numbers that are NaN or infinite, the first at "
                f"{tuple(wrong[0].tolist())} (batch, query, out). Every answer must be finite: an answer that is "
                "missing cannot be compared. Leave those prompts out of both files, or repair the model."
            )
        if self.names and len(self.names) != self.prompt.batch:
            raise InputError(f"{len(self.names)} diagnostics are named for {self.prompt.batch} prompts; one each.")

    def part(self, *, inside: bool) -> "Answered | None":
        """The prompts in distribution, or the others; nothing where there is none."""
        rows = torch.tensor([(name == INSIDE) == inside for name in self.names or (ALL,) * self.prompt.batch])
        if not bool(rows.any()):
            return None
        p = self.prompt
        names = tuple(name for name, kept in zip(self.names, rows.tolist(), strict=False) if kept)
        return Answered(Prompt(p.xs[rows], p.ys[rows], p.queries[rows]), self.answers[rows], names)

    @property
    def precision(self) -> torch.dtype:
        """The coarsest precision that holds every answer, whatever the dtype that they are stored in."""
        several = len(self.answers.unique()) > DIFFERENT
        coarser = (torch.bfloat16, torch.float16, torch.float32) if several else (torch.float32,)
        kinds = [kind for kind in coarser if torch.equal(self.answers.to(kind).to(self.answers.dtype), self.answers)]
        return kinds[0] if kinds else self.answers.dtype


@final
@dataclass(frozen=True, eq=False)
class LengthBlock:
    """The prompts of one context length, in float64."""

    view: PromptView
    answers: Float[Tensor, "batch query out"]
    group: Int[Tensor, " batch"]
    """The diagnostic of every prompt, as its place in the list of the evidence."""
    fitting: Bool[Tensor, " batch"]
    """Whether a prompt is for fitting; the others are for scoring."""
    copies: Int[Tensor, " batch"]
    """Equal numbers for equal prompts."""
    rounding: Float[Tensor, " batch"]
    """The squared error that rounding alone may leave, per prompt."""

    @cached_property
    def floor(self) -> Float[Tensor, " batch"]:
        """The squared error of which nothing is made, per prompt: what rounding may leave, or :data:`FLOOR`."""
        return torch.maximum(self.rounding, FLOOR * self.energy)

    @cached_property
    def energy(self) -> Float[Tensor, " batch"]:
        """The mean square of the answers to each prompt."""
        return self.answers.square().mean((1, 2))

    def missed(self, answers: Float[Tensor, "batch query out"]) -> Float[Tensor, " batch"]:
        """The mean squared error of a candidate, per prompt; infinite where it is not a number."""
        return (answers - self.answers).square().mean((1, 2)).nan_to_num(torch.inf, torch.inf)

    @cached_property
    def reader(self) -> Float[Tensor, "batch dim query"] | None:
        """What turns the answers to a prompt into weights, by least squares; none where queries are too few."""
        queries = self.view.prompt.queries
        return torch.linalg.pinv(queries) if queries.shape[1] >= queries.shape[2] else None

    def part(self, rows: Tensor) -> "LengthBlock":
        """Some of the prompts."""
        kept = (t[rows] for t in (self.answers, self.group, self.fitting, self.copies, self.rounding))
        return LengthBlock(self.view.part(rows), *kept)


@final
@dataclass(frozen=True)
class Diagnostic:
    """A kind of prompt at one context length.

    Args:
        name: What is special about the prompts.
        points: The context length.
        block: Which block holds them.
    """

    name: str
    points: int
    block: int


@final
@dataclass(frozen=True, eq=False)
class Evidence:
    """Answers to prompts, split and weighted.

    Args:
        blocks: One for each context length.
        diagnostics: What the numbers in ``LengthBlock.group`` name.
        kind: What the prompts are, read off them.
    """

    blocks: tuple[LengthBlock, ...]
    diagnostics: tuple[Diagnostic, ...]
    kind: Kind

    @property
    def prompts(self) -> int:
        """The number of prompts."""
        return sum(block.view.prompt.batch for block in self.blocks)

    def half(self, *, fitting: bool, most: int | None = None) -> "Evidence":
        """The prompts for fitting, or those for scoring; with ``most``, evenly thinned to about so many."""
        kept = []
        for block in self.blocks:
            rows = (block.fitting == fitting).nonzero()[:, 0]
            if most is not None and self.prompts // 2 > most:
                step = self.prompts / 2 / most
                rows = rows[torch.arange(0, len(rows), step).long()]
            kept.append(block.part(rows))
        return Evidence(tuple(kept), self.diagnostics, self.kind)

    def energies(self) -> Float[Tensor, " diagnostic"]:
        """The mean square of the answers, per diagnostic."""
        return self.per_diagnostic([block.energy for block in self.blocks])

    def per_diagnostic(self, values: Sequence[Tensor]) -> Float[Tensor, " diagnostic"]:
        """The mean over the prompts of each diagnostic, from one vector for each block; zero where there is none."""
        total, count = torch.zeros(2, len(self.diagnostics), dtype=torch.float64)
        for block, value in zip(self.blocks, values, strict=True):
            total.index_add_(0, block.group, value)
            count.index_add_(0, block.group, torch.ones_like(value))
        return total / count.clamp(min=1)

    @cached_property
    def scales(self) -> tuple[Float[Tensor, " batch"], ...]:
        """The mean square of answers to which the error of a prompt is related, block by block.

        It is the mean over its diagnostic, with larger ones cut, or a share of its own where that is larger (see
        :meth:`weights`).
        """
        energy = torch.cat([block.energy for block in self.blocks])
        group = torch.cat([block.group for block in self.blocks])
        result = torch.zeros_like(energy)
        for index in group.unique().tolist():
            rows = group == index
            middle = energy[rows].median().clamp(min=max(1e-12 * energy.max().item(), 1e-280))
            typical = energy[rows].clamp(max=LARGE * middle.item()).mean().clamp(min=middle)
            result[rows] = typical * (energy[rows] / typical / RUNAWAY).clamp(min=1)
        return result.split([len(block.group) for block in self.blocks])

    def weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """What a squared error counts for in a fit, and what a prompt counts for, block by block.

        Every diagnostic counts alike. A prompt whose answers are far larger than usual in its diagnostic counts
        relative to its own size, or a few prompts on which an iteration runs away would decide everything. Only far
        larger ones: a weight that followed the noise of the answers would pull every fit towards small answers.
        """
        counts = torch.bincount(torch.cat([b.group for b in self.blocks]), minlength=len(self.diagnostics))
        present = int((counts > 0).sum())
        shares = [1 / (counts[block.group] * present).double() for block in self.blocks]
        return [share / scale for share, scale in zip(shares, self.scales, strict=True)], shares


def gather(answered: Sequence[Answered]) -> Evidence:
    """Arrange answered prompts for comparison.

    Raises:
        InputError: If there are too few prompts for an interval, or all answers are the same number.
    """
    count = sum(given.prompt.batch for given in answered)
    if count < LEAST:
        raise InputError(
            f"{count} prompts are too few for an interval: half of them fit the candidates' parameters and half score "
            f"them. At least {LEAST} prompts are needed, and a hundred of each kind tell more."
        )
    shapes = {(given.prompt.dim, given.prompt.out) for given in answered}
    if len(shapes) > 1:
        raise InputError(f"all prompts must have one dim and one number of outputs; got {sorted(shapes)}.")
    refuse_constant(answered)
    found: dict[Diagnostic, int] = {}
    blocks = tuple(block_of(given, index, found) for index, given in enumerate(answered))
    counts = torch.stack([torch.bincount(b.group, minlength=len(found)) for b in blocks]).sum(0)
    for diagnostic, number in zip(found, counts.tolist(), strict=True):
        if number < 4:
            raise InputError(
                f"the diagnostic {diagnostic.name!r} has {number} prompts; at least 4 are needed, two to fit on and "
                "two to score. Ask for more, or give it another's name."
            )
    return Evidence(blocks, tuple(found), kind_of([given.prompt for given in answered]))


def refuse_constant(answered: Sequence[Answered]) -> None:
    values = torch.cat([given.answers.flatten().double() for given in answered])
    middle, spread = values[0].item(), (values - values[0]).abs().max().item()
    if spread > SAME * max(abs(middle), *(given.prompt.ys.abs().max().item() for given in answered)):
        return
    same = abs(middle) <= spread
    zero = " Zero() answers so, and so does a network whose weights are zero or ridge without end." if same else ""
    apart = f", up to {spread:.1g}, which is nothing beside the labels" if spread else ""
    raise InputError(
        f"all answers are the same number, {0.0 if same else middle:.6g}{apart}: they do not depend on the prompt, so "
        f"no learning algorithm can be told from them.{zero} Check what the model reads and which output was stored."
    )


def block_of(given: Answered, index: int, found: dict[Diagnostic, int]) -> LengthBlock:
    names = given.names or (ALL,) * given.prompt.batch
    group = torch.tensor([found.setdefault(Diagnostic(n, given.prompt.points, index), len(found)) for n in names])
    view = PromptView(given.prompt.to(torch.float64))
    answers = given.answers.double()
    copies = equal_rows(view.prompt)
    scale = answers.square().mean((1, 2))
    condition = view.condition()
    unit = torch.finfo(given.precision).eps
    allowed = (SLACK * unit * (view.prompt.points + condition.square())).clamp(max=max(MOST_ROUNDING, 4 * unit))
    return LengthBlock(view, answers, group, split(group, copies), copies, allowed.square() * scale)


def equal_rows(prompt: Prompt) -> Int[Tensor, " batch"]:
    """A number for every prompt, the same for equal ones."""
    rows = torch.cat([t.flatten(1) for t in (prompt.xs, prompt.ys, prompt.queries)], dim=1).contiguous()
    seen: dict[bytes, int] = {}
    return torch.tensor([seen.setdefault(row.numpy().tobytes(), len(seen)) for row in rows.cpu()])


def split(group: Int[Tensor, " batch"], copies: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Every other prompt of each diagnostic is for fitting; copies go where the first of them goes."""
    side: dict[int, bool] = {}
    turns: dict[int, int] = {}
    for g, c in zip(group.tolist(), copies.tolist(), strict=True):
        if c not in side:
            turns[g] = turns.get(g, 0) + 1
            side[c] = turns[g] % 2 == 1
    return torch.tensor([side[c] for c in copies.tolist()])


def kind_of(prompts: Sequence[Prompt]) -> Kind:
    """What the prompts are: one-hot rows are classes, labels that are the next inputs a sequence."""
    if all(p.out > 1 and bool(((p.ys == 0) | (p.ys == 1)).all() and (p.ys.sum(-1) == 1).all()) for p in prompts):
        return "classes"
    if all(is_sequence(prompt) for prompt in prompts):
        return "sequence"
    return "regression"


def is_sequence(prompt: Prompt) -> bool:
    follows = prompt.out == prompt.dim and torch.equal(prompt.ys[:, :-1], prompt.xs[:, 1:])
    return follows and prompt.queries.shape[1] == 1 and torch.equal(prompt.queries[:, 0], prompt.ys[:, -1])
