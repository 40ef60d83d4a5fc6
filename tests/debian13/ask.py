"""Asks a server for the classes of some images: `python ask.py localhost:8500 PHOTOS`."""

import sys
from pathlib import Path

from imgpipe.serving.client import Client

with Client(sys.argv[1], model="imgpipe") as client:
    paths = sorted(Path(sys.argv[2]).glob("*/*.jpg"))[::40]
    for path, answer in zip(paths, client.classify(paths), strict=True):
        print(path.name, answer.label, answer.probability)
