"""The head that is solved on stored features, its calibration and its plain arrays."""
