"""The machine and the process in which imgpipe computes, and how far the work is."""
