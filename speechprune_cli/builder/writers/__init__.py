"""Who writes the dialogues: one file each, named like the writer. To add one, add a file.

A writer is a module of this package that holds one subclass of `Writer`; its fields are its
settings.
"""

from __future__ import annotations

from speechprune_cli.builder.writers.base import Writer
from speechprune_cli.registry import Registry

WRITERS = Registry[Writer](__name__, __path__, Writer, "writer", group="speechprune.writers")
