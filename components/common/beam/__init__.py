"""The workers that run the Beam pipelines of the components."""
