"""The records that are read again from the files of earlier runs, and how they are checked.

A result is declared where it is made, as a `TypedDict` whose annotations say what each field holds.
`imgpipe.pipeline.json_formats` lists the results of all commands.
"""
