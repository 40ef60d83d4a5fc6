"""The page on which people try a served model in a browser.

`pages` serves the files of this folder under the REST port: `index.html` is the document,
`page.css` its style beside `serving/style.css`, which all pages share, `page.js` its behaviour, and
the other scripts are the modules that `page.js` imports. The page calls the REST API of the same
server, and `knowledge`, which says what a version has learned.
"""
