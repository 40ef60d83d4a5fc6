"""The checks of `imgpipe doctor`: this machine, and the output folder of earlier runs."""
