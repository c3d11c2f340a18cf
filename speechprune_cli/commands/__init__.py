"""One file a subcommand: parse, call the Python API, render."""
