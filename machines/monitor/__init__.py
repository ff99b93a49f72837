"""What controls a machine while it runs: QMP's commands (`qmp`), the commands for people (`human`), and what
both stand on (`control`, `states`).
"""
