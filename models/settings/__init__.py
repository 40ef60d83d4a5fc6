"""The settings of a model, which are those of its network, training and views, and their limits."""
