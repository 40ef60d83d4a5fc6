"""Runs the command line: `python -m imgpipe` is the program `imgpipe`."""

from imgpipe import _main

_main()
