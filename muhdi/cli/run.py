"""How the command line ends: mistakes are one line and status 2, signals 128 plus their number."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import typer

from muhdi.cli.output import one_line
from muhdi.errors import Interrupted, MuhdiError, PeerFailed

UsageError: type[typer.BadParameter] = typer.BadParameter.__bases__[0]
"""What Typer raises for an unknown command or option. It offers only a subclass by name."""

SCRIPTS = ("train.py", "test.py")


def run(commands: typer.Typer) -> None:
    """Run the command that the arguments name, and end the process with its status.

    Status 1 says that some of the work failed, 2 that the user made a mistake, which is explained
    on one line, and 128 plus a signal's number that the signal stopped a run, which is saved.
    """
    # PyTorch's native code warns its own developers here, for example of unused sockets.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        status = commands(prog_name=" ".join(_called()), standalone_mode=False)
    except UsageError as error:
        _fail(_usage(error))
    except MuhdiError as error:
        _fail(str(error))
    except OSError as error:
        # The system itself refuses a path: too long, not allowed, a full disk.
        reason = (error.strerror or str(error)).lower()
        _fail(f"{error.filename or 'a file'}: {reason}")
    except Interrupted as stop:
        with suppress(OSError):  # the terminal may be closed, which is why the run has stopped
            typer.echo(f"Stopped; progress is saved. Resume with: {_resume()}", err=True)
        sys.exit(128 + stop.signum)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail(_out_of_memory(error))
    except PeerFailed:
        sys.exit(0)  # rank zero has the message, and its status counts
    except typer.Abort:
        sys.exit(1)
    if isinstance(status, int):
        sys.exit(status)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {one_line(message)}", err=True)
    sys.exit(2)


def _is_out_of_memory(error: Exception) -> bool:
    # Told by name and text: importing torch here would slow down every command.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _out_of_memory(error: Exception) -> str:
    reason = str(error).partition("\n")[0].partition(". ")[0] or "the system has no more"
    return (
        f"out of memory: {reason}; take a smaller batch_size or image_size, compute a batch in"
        " parts (every_step.accumulate), or set precision: bf16-mixed; predict and evaluation have"
        " a batch size of their own"
    )


def _usage(error: typer.BadParameter) -> str:
    """Typer's message in the form of ours, with the command whose ``--help`` lists the options."""
    text = error.format_message().rstrip(".")
    if error.ctx is not None:
        text = f"{text} (see {error.ctx.command_path} --help)"
    return text[:1].lower() + text[1:]


def _resume() -> str:
    """The command that continues the run that this command has begun."""
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    called = _called()
    # A sweep resumes its runs by itself.
    if called != ["muhdi"] or words[:1] in (["train"], ["adapt"]):
        words.append("--resume")
    return shlex.join(called + words)


def _called() -> list[str]:
    """What the user called: ``muhdi``, or one of the scripts."""
    if Path(sys.argv[0]).name in SCRIPTS:
        return ["python", sys.argv[0]]
    return ["muhdi"]
