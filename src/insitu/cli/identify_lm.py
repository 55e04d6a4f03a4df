"""``insitu identify --lm``: which learner a language model is on regression written as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from insitu.cli.options import KeptOptions, Where
from insitu.cli.terminal import print_result, progress_by_stage
from insitu.errors import InputError

if TYPE_CHECKING:
    from insitu.language.numbers import NumberPlan

__all__ = ["NumberOptions", "identify_numbers"]


@dataclass(frozen=True)
class NumberOptions:
    """A language model, and how numbers are written for it."""

    lm: Annotated[str | None, typer.Option(help="A language model: its answers to regression written as text.")] = None
    numbers: Annotated[
        list[int] | None, typer.Option("--range", help="The least and the largest whole number.", show_default="0 99")
    ] = None
    start: Annotated[str, typer.Option(help="What stands before the inputs of a line.")] = "Input: "
    separator: Annotated[str, typer.Option(help="What stands between the coordinates of an input.")] = ", "
    middle: Annotated[str, typer.Option(help="What stands between inputs and label.")] = " Output: "
    end: Annotated[str, typer.Option(help="What ends a label; \\n is the end of a line.")] = "\\n"
    queries: Annotated[int, typer.Option(min=1, help="Queries of every prompt of numbers.")] = 2
    label_noise: Annotated[float, typer.Option(min=0, help="Noise of labels, in whole numbers.")] = 2.0

    def plan(self, dim: int | None, points: Sequence[int], count: int | None) -> "NumberPlan":
        """Which prompts are used.

        Raises:
            InputError: If the range is not two numbers, or a number is out of its range.
        """
        from insitu.language.numbers import NumberLines, NumberPlan

        if self.numbers is not None and len(self.numbers) != 2:
            raise InputError(
                f"identify: --range takes two whole numbers, such as --range 0 99; got {len(self.numbers)}: "
                f"{self.numbers}."
            )
        low, high = self.numbers or (NumberLines.low, NumberLines.high)
        # A shell has no easy way to write the end of a line.
        texts = [t.replace("\\n", "\n") for t in (self.start, self.separator, self.middle, self.end)]
        lines = NumberLines(low, high, *texts)
        lengths = tuple(points) or NumberPlan.points
        return NumberPlan(dim or 1, lengths, count or NumberPlan.count, self.queries, self.label_noise, lines=lines)


def identify_numbers(name: str, plan: "NumberPlan", where: Where, kept: KeptOptions) -> None:
    """Ask a language model, and print or write what it is."""
    from insitu.language import load_language_model
    from insitu.language.numbers import identify_language_model
    from insitu.seed import Seed

    model = load_language_model(name, device=where.place)
    with progress_by_stage("reading prompts", steps(plan)) as tell:
        identification = identify_language_model(
            model, plan, Seed(where.seed), tell, folder=kept.out, resume=kept.resumes
        )
    page = None if kept.out is None else identification.save_page(kept.out)
    print_result(identification, str(identification), page, as_json=where.as_json)


def steps(plan: "NumberPlan") -> int:
    """How many prompts are read and stages gone through, about."""
    from insitu.language.numbers.candidates import number_families

    prompts = len(plan.lengths) * plan.count + 6 * (plan.count // 2)
    return prompts + len(number_families(plan.lines)) + 3
