"""What is known about a run: its facts with their figures, and the verdict."""
