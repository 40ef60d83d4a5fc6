"""The commands' bodies, one a module, each imported when its command runs."""
