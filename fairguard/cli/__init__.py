"""The command ``fairguard``: parse, call, render. No logic, and nothing heavy until a command runs."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from fairguard import __version__
from fairguard.errors import FairguardError, did_you_mean
from fairguard.exit_codes import INTERRUPTED, NOT_JUDGED, PRESERVED
from fairguard.ranks import Ranks

SECONDS_BEHIND = 5
"""Head start of the first of several processes in telling an error that all of them meet."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says where it takes no more bytes."""

COMMANDS = {
    "check": "Judge a pruned model against its dense one.",
    "prune": "Make a sparse model of a dense one, and check it.",
    "repair": "Make a regressed model fair again, and prove it.",
    "init": "Write a commented configuration from a data file's columns.",
    "demo": "Make small models, check them, repair one; leave all to play with.",
    "inspect": "Say what a model file is, without running it.",
    "fuzz": "Hunt for a pair of rows where only the group decides.",
    "plan": "Say how many rows a check needs.",
    "doctor": "Measure the check's own error rates on your data.",
}


class UnreadError(Exception):
    """The reader of our output left, as ``| head`` does."""


@contextmanager
def _unread() -> Iterator[None]:
    """Tell a reader that left from code that leaves Python: click, and rich in its way, make a ``SystemExit`` of it."""
    try:
        yield
    except BrokenPipeError:
        raise UnreadError from None
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise UnreadError from None
        raise


class LazyGroup(click.Group):
    """A group whose commands are imported only when they run, so that ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module; ``None`` for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"fairguard.cli.{cmd_name}_command").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return the command of ``args``; an unknown name gets a suggestion."""
        if args and args[0] in COMMANDS and args[0] != "check" and Ranks.here().size > 1:
            raise click.UsageError(f"fairguard {args[0]} is one process; only fairguard check runs under torchrun.")
        if args and args[0] not in COMMANDS:
            hint = did_you_mean(args[0], COMMANDS) or f" Commands: {', '.join(COMMANDS)}."
            raise click.UsageError(f"no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Return the context of a run; ``--help`` and ``--version`` write here."""
        with _unread():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Return what the command returns."""
        with _unread():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from their names alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fairguard")
def cli() -> None:
    """Tell whether compressing a neural network made it unfair, and repair it.

    Exit codes: 0 preserved, 1 regressed, 2 not judged, 3 inconclusive, 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command and leave with its exit code: click's own codes would call a usage error a regression."""
    if not sys.warnoptions:  # what torch's parts say to each other of deprecations is nothing to a user of the command
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch(\.|$)")
    _ready_streams()
    if Ranks.here().size == 1:  # torchrun ends its processes so, and tells of them itself
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up, as after Ctrl-C
    sys.exit(run(arguments))


def _ready_streams() -> None:
    """Let stdout and stderr be there and take all text: closed ones (``>&-``) are none, latin-1 lacks most signs."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (until the end)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(arguments: list[str] | None = None) -> int:
    """Return the exit code of the command; every error is one line on stderr."""
    if not Ranks.here().first:
        return _run_beside(arguments)
    return _run(arguments)


def _run_beside(arguments: list[str] | None) -> int:
    """Run what another process runs too, in silence: what all would say, the first one says.

    torchrun ends all where one fails. A verdict is no failure, and an error of all is the first one's to tell; one that
    is this process's alone is told when the first one has had time to find it.
    """
    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        code = _run(arguments)
    if code not in (NOT_JUDGED, INTERRUPTED):
        return PRESERVED
    time.sleep(SECONDS_BEHIND)
    click.echo(said.getvalue(), nl=False, err=True)
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        code = cli.main(args=arguments, prog_name="fairguard", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", INTERRUPTED)
    except (click.ClickException, FairguardError) as error:
        return _refused(error)
    except SystemExit as error:  # from the user's own code: leaving with its 0 would say "preserved"
        return _complain(f"code that was called left Python with exit code {error.code}; let it return", NOT_JUDGED)
    except UnreadError:
        sys.stderr.close()  # Python itself would tell of it at its end
        return NOT_JUDGED
    except Exception as error:  # our own bug must never look like a verdict
        _write_traceback()
        return _complain(_told(error), NOT_JUDGED)
    return code if isinstance(code, int) else PRESERVED


def _told(error: Exception) -> str:
    """Return one line for what nobody foresaw: a full disk, whatever was being written, is no bug of ours."""
    if isinstance(error, OSError) and error.errno in FULL:
        where = f" {error.filename}" if error.filename else ", neither output nor temporary files"
        why = os.strerror(error.errno or 0)
        return f"cannot write{where}: {why}. Make room, or write elsewhere (temporary files: TMPDIR)."
    return f"internal error, please report it: {type(error).__name__}: {error}"


def _refused(error: click.ClickException | FairguardError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # the bare command: its text is the help
        click.echo(error.format_message(), err=True)
        return NOT_JUDGED
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        message += f" See {error.ctx.command_path} --help."
    return _complain(message, NOT_JUDGED)


def _complain(message: str, code: int) -> int:
    click.echo(
        f"fairguard: error: {' '.join(message.split())}" if code != INTERRUPTED else f"fairguard: {message}", err=True
    )
    return code


def _write_traceback() -> None:
    """Show where our own bug is, only to those who asked for it with FAIRGUARD_TRACEBACK=1."""
    import traceback

    if os.environ.get("FAIRGUARD_TRACEBACK"):
        traceback.print_exc()
