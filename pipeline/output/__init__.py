"""The output folder: its runs, what they left, and what can be repaired or removed."""
