"""Names that several rooms share: features of examples, parts of a model, types of arrays."""
