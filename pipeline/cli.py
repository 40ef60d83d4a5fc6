"""The command line of `imgpipe`: handles signals first, and then imports and runs commands.

Exit codes: 0 done and blessed, 1 defect, 2 bad arguments or configuration, 3 finished but not
blessed, 4 data refused or drift found, 5 a resource is missing or busy, 130 interrupted by Ctrl-C,
143 stopped by SIGTERM.
"""

from __future__ import annotations

from imgpipe.pipeline.command_line import signals


def main() -> None:
    """Run the command line; an error that people can act on is printed as one sentence.

    Raises:
        SystemExit: Always, with the exit code.
    """
    signals.install()
    try:
        _run()
    except SystemExit:
        raise
    except BaseException:
        # Libraries may turn the exception of a signal into an error of their own.
        if not signals.received():
            raise
        _end(signals.sentence(), signals.exit_code())


def _run() -> None:
    import os

    from imgpipe.models.errors import ImgpipeError, ResourceError
    from imgpipe.pipeline.command_line import command_process

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no INFO lines, such as those of the build
    command_process.prepare()
    from imgpipe.pipeline.application import app

    try:
        app(standalone_mode=True)
    except ImgpipeError as error:
        _end(str(error), error.exit_code)
    except PermissionError as error:  # also below a folder that this user may not enter
        if error.filename is None:
            raise
        _end(
            f"no permission for {error.filename}: {error.strerror or error}. Give this user access "
            "to it and to the folders above it, or name another place.",
            ResourceError.exit_code,
        )


def _end(sentence: str, exit_code: int) -> None:
    import sys

    from rich.text import Text

    from imgpipe.models.errors import printable
    from imgpipe.pipeline.command_line.terminal import new_console, say

    words = Text.assemble(("imgpipe:", "bold red"), f" {printable(sentence, lines=True)}")
    say(new_console(stderr=True), words, whole=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
