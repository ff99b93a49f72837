"""The subcommands of ``isagen image``, one a module: `add_arguments`, `run`, maybe `prepare`."""
