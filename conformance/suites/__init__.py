"""What can be run: each suite has `items(setup, options)`, the names of its items, and `run(task)`, their
rows.
"""
