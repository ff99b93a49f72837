"""Accelerators: what executes a guest's instructions. `contract` says what a machine may expect of one;
`engine` is the first: the code that isagen generates from the specs. `choice` finds one by its name.
"""
