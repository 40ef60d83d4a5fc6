"""The page of ``imgpipe review``: images about which a person decides, one after the other.

``questions`` reads from a run which images there are, ``decisions`` keeps the answers in the file
of overrides, ``images`` reads the images from the source of the run, ``web`` answers the browser,
and ``server`` runs it on this machine. ``index.html``, ``review.css`` and ``review.js`` are the
page.
"""
