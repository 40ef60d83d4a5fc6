"""Continuous fuzzing of everything that reads bytes from untrusted or damaged files.

`make fuzz` mutates the files in `valid/TARGET` and the inputs of earlier rounds. An input with
a new answer is kept in `corpus/TARGET`, and so is one that a reader does not answer because of an
exception that is no refusal, a hang, too much memory or a crash of the process. `test_corpus.py`
replays the whole corpus.
"""
