"""Continuous fuzzing of everything that reads bytes which other people made.

`make fuzz` damages the files of the corpus and of earlier rounds. An input that is answered in a
new way is kept in ``corpus/TARGET``, and so is one that a reader does not answer: an exception
that is no refusal, a hang, too much memory, a crash of the process. `test_corpus.py` replays the
whole corpus.
"""
