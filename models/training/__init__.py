"""Training by epochs: its data, its loop with checkpoints, and its stages."""
