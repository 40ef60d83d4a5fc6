"""The commands, one module each: a Typer `app` with the options, and the body beside it.

`cli.py` imports every module of this folder, so their first lines may import nothing heavier than
Typer and the standard library.
"""
