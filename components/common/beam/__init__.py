"""What components share in their Beam pipelines: transforms, and the workers that run them."""
