"""Files of artifacts: TFRecords, manifests with digests, and content-addressed stores."""
