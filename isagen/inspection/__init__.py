"""Tools to look inside a running program: tracing, counting, profiles, coverage, debuggers.

Each attaches to an engine's CPU by standing in for its `run`, or by the engine's counters; what is above (a
Linux process, a bare machine) notices nothing.
"""
