"""The JSON that runs and commands write: what composes it, what reads it again, and the list of it.

A result is declared where it is made, as a `TypedDict` whose annotations say what each field holds.
`formats` lists the results of all commands; the page of the reference is generated from it, and
tests compare it with what the commands write. A later release may add fields; the meaning of a
field does not change as long as `schema` has the same number.
"""
