"""Kubeflow Pipelines: the compiled PipelineSpec, and what its containers run."""
