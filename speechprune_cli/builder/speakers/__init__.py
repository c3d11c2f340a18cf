"""Speech synthesizers: one file each, named like the synthesizer. To add one, add a file.

A speaker is a module of this package that holds one subclass of `Speaker`; its fields are its
settings. Nothing is
imported that is not installed before `load`, and no speaker is needed to answer questions.
"""

from __future__ import annotations

from speechprune_cli.builder.speakers.base import Speaker
from speechprune_cli.registry import Registry

SPEAKERS = Registry[Speaker](__name__, __path__, Speaker, "speaker", group="speechprune.speakers")
