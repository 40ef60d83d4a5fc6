"""Files of artifacts: TFRecords, manifests with digests, seals, and content-addressed stores."""
