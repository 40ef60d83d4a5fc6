"""What commands share: options, console, signals, and the files of `--json`."""
