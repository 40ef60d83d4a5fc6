"""The architectures, with one module for each family.

A module in this folder lists its architectures in `ARCHITECTURES`. If its names follow a pattern,
it also has a function `named`. `registry.py` finds the modules.
"""
