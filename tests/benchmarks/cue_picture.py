"""How `cue` finds a passage: `python tests/benchmarks/cue_picture.py OUT.svg`.

Draws the example recording and its question, with what the method itself computes.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from speechprune_cli import load
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners._segments import quiet_segments
from speechprune_cli.pruners.cue import Cue, Cues
from speechprune_cli.report.figures import KEPT, PRUNED, TEXT, write

EXAMPLE = Path("speechprune_cli/examples/meeting.ogg")
QUESTION = EXAMPLE.with_suffix(".question").read_text().strip()
KEEP = 150


def main() -> None:
    """Draw it."""
    session = load("nano")
    tokens = session.encode(EXAMPLE)
    model = session.model
    task = PruningTask(
        tokens,
        model.embed_text(QUESTION),
        QUESTION,
        len(model.text_ids(QUESTION)),
        model.vocabulary_mean,
        model.first_layer(),
        first=750,
        phase1_budget=750,
        keep=KEEP,
    )
    method = Cue(**model.preset.defaults.settings["cue"])
    segments = quiet_segments(tokens.loudness, tokens.per_second, method.longest)
    found = Cues.of(task, segments)
    held = method.shared(found.weighed(found.matches))
    kept = method.select(task).kept
    words = [model.text_of([each]).strip() for each in model.text_ids(QUESTION)]
    borders = torch.cat([segments.diff().nonzero().flatten() + 1, torch.tensor([len(tokens)])])
    edges = np.concatenate([[0.0], tokens.times[borders - 1, 1].numpy()])

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    loud, cues, worth, bar = figure.subplots(4, 1, sharex=True, height_ratios=(2, 6, 2, 1))
    times = tokens.times.mean(1).numpy()
    loud.fill_between(times, tokens.loudness.numpy(), -70, color=PRUNED, linewidth=0)
    loud.vlines(edges, -70, 0, color="#555555", linewidth=0.4)
    loud.set(ylabel="dB", ylim=(-70, -5))
    loud.set_title(f"1  Segments end where it is quiet.   {QUESTION}", loc="left", fontsize=9)
    names = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    rows = found.standing(found.matches).T.numpy()
    cues.pcolormesh(edges, np.arange(len(names) + 1), rows, cmap="Blues", vmin=0, vmax=5)
    cues.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=6)
    cues.invert_yaxis()
    cues.set_title("2, 3  What stands out among the segments, cue by cue.", loc="left", fontsize=9)
    worth.stairs(held.sum(1).numpy(), edges, fill=True, color=TEXT, alpha=0.7)
    worth.set_yticks([])
    worth.set_title("4  Prominent cues weigh most; neighbours share.", loc="left", fontsize=9)
    bar.bar(times[kept], 1, width=0.04, color=KEPT)
    bar.set_yticks([])
    bar.set(xlabel="seconds", xlim=(0, tokens.seconds))
    share = f"{KEEP:,} of {len(tokens):,} tokens kept"
    bar.set_title(f"5  {share}: the best passages whole, the rest evenly.", loc="left", fontsize=9)
    for axes in (loud, cues, worth, bar):
        axes.spines[["top", "right"]].set_visible(False)
    write(figure, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
