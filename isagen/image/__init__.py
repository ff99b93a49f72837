"""The subcommands of ``isagen image``, one a module: `SUMMARY`, `add_arguments`, `run`."""
