"""The program: its commands, global options and exit codes."""

import io
import os
import shlex
import sys
from typing import Annotated, Any

import typer

from insitu.budget import OutOfTimeError
from insitu.cli.claims import claims
from insitu.cli.doctor import doctor
from insitu.cli.explore import explore
from insitu.cli.identify import identify
from insitu.cli.lm import lm
from insitu.cli.options import Command, grouped
from insitu.cli.predict import predict
from insitu.cli.report import report
from insitu.cli.reproduce import reproduce
from insitu.cli.status import status
from insitu.cli.sweep import sweep
from insitu.cli.terminal import console, escaped, refuse
from insitu.cli.train import train
from insitu.errors import InputError, out_of_memory, shortened

__all__ = ["app", "run"]

# What typer raises for unknown commands and options; it has no public name.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# EX_TEMPFAIL of sysexits.h: run the same command again.
OUT_OF_TIME = 75
# What shells say of a program that Ctrl-C ended.
INTERRUPTED = 130

app = typer.Typer(
    name="insitu",
    help="A laboratory for in-context learning: run the claims of papers again, identify the algorithm that a model "
    "runs in context, and compare in-context learning with fine-tuning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (reproduce, claims, identify, predict, train, sweep, report, status, explore, doctor):
    app.command(cls=Command)(grouped(command))
app.add_typer(lm, name="lm")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the versions and the device, and exit.")] = False,
) -> None:
    """Options of the program itself."""
    if show:
        import torch

        import insitu
        from insitu.device import describe_device, pick_device

        device = describe_device(pick_device("auto"))
        typer.echo(f"insitu {insitu.__version__}, torch {torch.__version__}, {device}")
        raise typer.Exit


def run() -> int:
    """Run the command line; its exit code: 2 with one paragraph for wrong input, 75 where a budget of time is spent."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A locale that knows ASCII alone gets question marks.
        sys.stdout.reconfigure(errors="replace")
    try:
        code: int = app(standalone_mode=False) or 0
    except UsageError as error:
        return refuse(error.format_message())  # type: ignore[attr-defined]
    except OutOfTimeError as error:
        console.print(escaped(str(error)), soft_wrap=True, highlight=False)
        return OUT_OF_TIME
    except InputError as error:
        return refuse(str(error))
    except (BrokenPipeError, SystemExit) as error:
        return without_reader(error)
    except (OSError, MemoryError, RuntimeError) as error:
        return refuse(refusal_of_the_system(error))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    # Typer makes an exit code of an interruption.
    if code == INTERRUPTED:
        console.print(interrupted(sys.argv[1:]), soft_wrap=True, highlight=False)
    return code


def refusal_of_the_system(error: Exception) -> str:
    """What is said of an error of the system: a file or stream that it refused, or memory; any other error goes on."""
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        return f"the system refused a file or stream{place}: {error.strerror or error}."
    if not out_of_memory(error):
        raise error
    return (
        f"memory ran out ({shortened(' '.join(str(error).split()) or 'nothing more is known', 160)}). What is finished "
        "is stored. Do less at a time, such as fewer prompts of a step, items or workers, or take a machine with more "
        "memory; --plan shows what is needed."
    )


def without_reader(error: BrokenPipeError | SystemExit) -> int:
    """The exit code where the reader of a pipe closed it, of which typer makes an exit; any other exit goes on."""
    if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
        raise error
    # Nothing is wrong. Python would complain once more while closing.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def interrupted(words: list[str]) -> str:
    """The message after an interruption, with the command that resumes.

    Example:
        >>> interrupted(["report", "results/quick"])
        'interrupted; no partial file is left. Run again: insitu report results/quick'
        >>> interrupted(["train", "a.toml"])
        'interrupted; finished work is kept. Resume with: insitu train a.toml --resume'
    """
    command = shlex.join(["insitu", *words])
    if not keeps(words):
        return escaped(f"interrupted; no partial file is left. Run again: {command}")
    more = "" if "--resume" in words else " --resume"
    return escaped(f"interrupted; finished work is kept. Resume with: {command}{more}")


def keeps(words: list[str]) -> bool:
    """Whether the command that the words name keeps finished work.

    Example:
        >>> keeps(["lm", "order", "--shots", "4"]), keeps(["lm", "weights"]), keeps(["identify", "run"]), keeps([])
        (True, False, False, False)
    """
    command: Any = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    return bool(getattr(command.callback, "keeps", lambda words: False)(words))
