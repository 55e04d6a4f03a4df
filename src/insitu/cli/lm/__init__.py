"""``insitu lm``: language models."""

import typer

from insitu.cli.lm.compare import compare
from insitu.cli.lm.fetch import fetch
from insitu.cli.lm.mask import mask
from insitu.cli.lm.order import order
from insitu.cli.lm.pretrain import pretrain
from insitu.cli.lm.weights import weights
from insitu.cli.options import Command, grouped

__all__ = ["lm"]

lm = typer.Typer(
    name="lm",
    help="Language models: in-context learning against fine-tuning on the same demonstrations.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (compare, order, mask, weights, pretrain, fetch):
    lm.command(cls=Command)(grouped(command))
