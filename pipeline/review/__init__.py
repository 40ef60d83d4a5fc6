"""The page of `imgpipe review`: the images of a run, and what a person decides about them.

`images` reads the images from a run and makes the views of them, `decisions` keeps the answers in
the file of overrides, and `web` shows the images and answers the browser. `index.html` and
`review.css` are the page, `review.js` its behaviour, `gallery.js` shows many images, and
`viewer.js` one.
"""
