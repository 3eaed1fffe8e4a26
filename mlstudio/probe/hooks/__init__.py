"""Hooks into the frameworks that people train with: what these log is recorded, with no change to the script.

One module a framework, with a function `patch(module)` that is called right after one of the modules that
`sitecustomize.watched` names was imported in a process of the run. Whatever fails in here is told once, as something
that the run lacks, and the training goes on as if nothing were there.
"""
