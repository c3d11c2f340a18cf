"""Figures for papers and slides; matplotlib and scikit-learn are imported only when drawing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechprune_cli.atomic import atomic
from speechprune_cli.extras import need
from speechprune_cli.report.timeline import Timeline
from speechprune_cli.units import clock

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from speechprune_cli.flow import AudioTokens, Selection

FORMATS = (".png", ".svg", ".pdf")
PRUNED, KEPT, TEXT = "#cfd3d8", "#2166ac", "#d6302a"
MOST_POINTS = 4000  # t-SNE of more tokens takes minutes and shows no more; more are thinned evenly


def check_drawable(option: str, *packages: str) -> None:
    """Raise UsageError where a package that a figure needs is not installed."""
    for package in packages:
        need(package, option, "plot")


def save_timeline(path: Path, tokens: AudioTokens, selection: Selection, question: str) -> None:
    """Draw tokens retained and mean score of every second, the best-matching seconds marked."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    timeline = Timeline.of(tokens, selection)
    second = np.arange(len(timeline.tokens))
    best = timeline.best()
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.bar(second + 0.5, timeline.tokens, width=1, color=PRUNED, label="pruned")
    above.bar(second + 0.5, timeline.kept, width=1, color=KEPT, label="kept")
    above.plot(np.add(best, 0.5), timeline.kept[best] + 1, "v", color=TEXT, markersize=4)
    above.set_ylabel("tokens per second")
    above.legend(loc="upper right", ncols=2, frameon=False, bbox_to_anchor=(1, 1.22))
    above.set_title(caption(tokens, selection, question), loc="left", fontsize=9)
    below.step(second, timeline.scores, where="post", color=KEPT, linewidth=1)
    below.set_ylabel("mean score")
    below.set_xlabel("time")
    below.set_xlim(0, max(tokens.seconds, 1))
    below.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(at)))
    below.xaxis.set_major_locator(MaxNLocator(10, steps=(1, 1.5, 2, 3, 6, 10), integer=True))
    write(figure, path)


def save_tsne(
    path: Path, tokens: AudioTokens, selection: Selection, text: Tensor, *, question: str, seed: int
) -> None:
    """Draw all tokens and the question's by t-SNE of cosine distances, as the paper's figure 2."""
    import numpy as np
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    shown = np.arange(0, len(tokens), -(-len(tokens) // MOST_POINTS))
    kept = np.isin(shown, selection.kept.cpu().numpy())
    audio = tokens.embeds.float().cpu().numpy()[shown]
    embeds = np.concatenate([audio, text.float().cpu().numpy()])
    perplexity = min(30, (len(embeds) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, metric="cosine", random_state=seed % 2**32)
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axes = figure.subplots()
    audio_points, text_points = np.split(tsne.fit_transform(embeds), [len(shown)])
    for (x, y), size, colour, label in (
        (audio_points[~kept].T, 7, PRUNED, "pruned"),
        (audio_points[kept].T, 7, KEPT, "kept"),
        (text_points.T, 22, TEXT, "question"),
    ):
        axes.scatter(x, y, size, color=colour, label=label, linewidths=0)
    axes.set(xticks=[], yticks=[])
    axes.set_title(caption(tokens, selection, question), loc="left", fontsize=8)
    note = f" ({len(shown):,} of {len(tokens):,} tokens)" if len(shown) < len(tokens) else ""
    axes.set_xlabel(f"t-SNE of the embeddings{note}", fontsize=8)
    axes.legend(loc="best", fontsize=8, frameon=False)
    write(figure, path)


def caption(tokens: AudioTokens, selection: Selection, question: str) -> str:
    """The question, and how many tokens of how many are kept by which method."""
    short = question if len(question) <= 70 else question[:69] + "…"
    return f"{short}\n{selection.method}: {len(selection.kept):,} of {len(tokens):,} tokens kept"


def write(figure: Figure, path: Path) -> None:
    """Save as the path's extension says."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=200)
