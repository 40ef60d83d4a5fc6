"""The architectures, one module for each family.

A module in this folder states what it has in ``ARCHITECTURES``; one whose names follow a pattern
also has a function ``named``. `registry.py` finds them.
"""
