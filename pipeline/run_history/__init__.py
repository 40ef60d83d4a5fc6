"""What `imgpipe runs` and `imgpipe compare` say about past runs. Nothing here needs TFX."""
