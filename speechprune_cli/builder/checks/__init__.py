"""What is measured on every recording: one file each, named like the check. To add one, add a file.

A check is a module of this package that holds one subclass of `Check`. Whether the set as a whole
is fair is told in `fairness.py`.
"""

from __future__ import annotations

from speechprune_cli.builder.checks.base import Check
from speechprune_cli.registry import Registry

CHECKS = Registry[Check](__name__, __path__, Check, "check", group="speechprune.checks")
