"""StatisticsGen: the distributions of the images' metadata, by split."""
