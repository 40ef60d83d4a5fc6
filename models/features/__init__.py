"""Stored features: their extraction, the bank, and what is known about its rows."""
