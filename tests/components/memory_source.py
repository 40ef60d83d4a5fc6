"""A source whose files are in memory."""


class Memory:
    """A source that returns the bytes of `files` by path and records the paths read in `paths`."""

    def __init__(self, files):
        self.files, self.paths = files, []

    def read(self, item):
        self.paths.append(item.path)
        return self.files[item.path]
