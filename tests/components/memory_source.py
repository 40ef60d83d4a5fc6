"""A source of images in memory."""

from __future__ import annotations


class Memory:
    """A source of bytes by path that lists what was read."""

    def __init__(self, files):
        self.files, self.paths = files, []

    def read(self, item):
        self.paths.append(item.path)
        return self.files[item.path]
