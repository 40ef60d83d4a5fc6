"""Published models: finding, loading, evaluating and exporting them."""
