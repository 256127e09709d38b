"""The `billing` command line: one file per group of commands, imported only when one of them is called."""
