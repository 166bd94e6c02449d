"""The command line. Results go to stdout, messages to stderr; a failure is one line and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from harkback import __version__
from harkback.commands import COMMANDS, MENTIONED, SETTINGS
from harkback.errors import HarkbackError, mend_of, starved
from harkback.flags import mentioned, parsed, with_settings
from harkback.interrupt import when_loaded
from harkback.messages import say


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exits with status 2 after one line if it cannot."""
    # Before torch is loaded: its threads must sleep, not spin, while they wait for one another. On a machine that does
    # other work besides, spinning made learning five times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return
    if args[0] == "--version":
        print(f"harkback {__version__}")
        return
    try:
        with when_loaded():
            _run(args[0], args[1:])
    except HarkbackError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("stopped; what was finished is kept: the same command goes on from there")
    except BrokenPipeError:  # The reader of our output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        mend = mend_of(error, "check the disk and the permissions, then run the same command again")
        _fail(f"{where}{error.strerror or error}; {mend}")
    except Exception as error:
        if starved(error):
            _fail("memory does not suffice; end other programs, then run the same command again: it goes on from there")
        if os.environ.get("HARKBACK_DEBUG"):
            raise
        _fail(
            f"this is a defect of harkback: {type(error).__name__}: {error}; "
            "please report it with what HARKBACK_DEBUG=1 in the environment prints"
        )


def _run(name: str, args: list[str]) -> None:
    if name not in COMMANDS:
        raise HarkbackError(f'there is no command "{name}"', mend=f"choose from {', '.join(COMMANDS)}")
    if name != "bench" and os.environ.get("WORLD_SIZE", "1") != "1":  # Asked first: the rest loads torch.
        from harkback.parallel import processes

        if processes() > 1:
            raise HarkbackError(f"{name} is one process's work", where="torchrun", mend="start it without torchrun")
    kinds = [registry for registry, commands in SETTINGS.items() if name in commands]
    if kinds:
        only = mentioned(args) if name in MENTIONED else None
        command, settings = with_settings(COMMANDS[name], name, args, kinds, only)
        command.run(settings)
    else:
        parsed(COMMANDS[name], name, args).run()


def _overview() -> str:
    width = max(map(len, COMMANDS))
    firsts = {name: (kind.__doc__ or "").strip().splitlines()[0] for name, kind in COMMANDS.items()}
    commands = "\n".join(f"  {name:<{width}}  {first}" for name, first in firsts.items())
    return (
        "usage: harkback COMMAND [OPTIONS]\n\n"
        "An audio-visual classifier that is taught new classes and does not forget the old ones.\n\n"
        f"commands:\n{commands}\n\nharkback COMMAND --help tells a command's options, defaults and units."
    )


def _fail(line: str) -> None:
    say(f"harkback: {line}")
    sys.exit(2)
