"""How a finished build is laid out for `eval`: one file each, named like the layout.

A layout is a module of this package that holds one subclass of `Layout`. To add one, add a file.
"""

from __future__ import annotations

from speechprune_cli.builder.layouts.base import Layout
from speechprune_cli.registry import Registry

LAYOUTS = Registry[Layout](__name__, __path__, Layout, "layout", group="speechprune.layouts")
