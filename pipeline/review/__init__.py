"""The page of `imgpipe review`: images about which a person decides, one after the other.

`questions` reads from a run which images there are, `decisions` keeps the answers in the file
of overrides, and `web` shows the images and answers the browser. `index.html`, `review.css`
and `review.js` are the page.
"""
