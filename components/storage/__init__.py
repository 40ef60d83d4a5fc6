"""TFRecord files of artifacts, and content-addressed stores that later runs use again."""
