"""What is known about a run: its facts, the verdict, metrics and advice."""
