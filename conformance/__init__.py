"""Conformance: do a target's evaluator, its built engine and independent peers agree, and with the manuals'
rows?

`suites` are what can be run; a suite splits into tasks that run anywhere (`campaign`) and give
`results.TaskResult`s, which `report` shows. `oracles` are the machines that are compared, over one common
start state (`cases`).
"""
