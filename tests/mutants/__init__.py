"""Mutation tests: changes to the code that a test must notice.

`python -m tests.mutants` (or `./run test.mutants`) changes one thing at a time in a copy of the tree, runs
the tests that reach it, and tells which changes none of them has noticed. There are two kinds of changes:
`operators` makes them from Python's syntax trees, one after the other; `edits` is a list of sentences about
what must not happen, each with the text that breaks it, also in C.

It is made here because the tools that there are don't fit: mutmut changes nothing outside of functions and
nothing that is decorated, which is most of the configuration's rules and all limits; cosmic-ray changes the
files of the working tree, and starts all tests anew for each change. Neither knows C.
"""
