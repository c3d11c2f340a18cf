"""Figures for papers and slides; matplotlib and scikit-learn are imported only when drawing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechprune_cli.atomic import atomic
from speechprune_cli.escaping import printable
from speechprune_cli.extras import need
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.report.files import spans
from speechprune_cli.report.timeline import Timeline
from speechprune_cli.units import clock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from speechprune_cli.flow import Audio, AudioTokens, Selection
    from speechprune_cli.report.passages import Passage

log = logging.getLogger("speechprune")
FORMATS = (".png", ".svg", ".pdf")
PRUNED, KEPT, TEXT = "#cfd3d8", "#2166ac", "#d6302a"
HOP = 512  # samples between columns of a spectrogram, at least
MOST_COLUMNS = 2000  # of it: more than a figure has pixels
MOST_PASSAGES = 8  # that are written below it
LINE = 150  # characters
MOST_POINTS = 4000  # t-SNE of more tokens takes minutes and shows no more; more are thinned evenly


def check_drawable(option: str, *packages: str) -> None:
    """Raise UsageError where a package that a figure needs is not installed."""
    for package in packages:
        need(package, option, "plot")


def save_timeline(
    path: Path,
    audio: Audio,
    tokens: AudioTokens,
    selection: Selection,
    question: str,
    read: Sequence[Passage] = (),
) -> None:
    """Draw the sound as a mel spectrogram, what is retained of it, and the score of every second.

    Where the retained tokens are words, `read` has them: the longest passages are written below.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    timeline = Timeline.of(tokens, selection)
    second = np.arange(len(timeline.tokens))
    best = timeline.best()
    said = longest(read)
    figure = Figure(figsize=(9, 4.6 + 0.19 * len(said)), layout="constrained")
    sound, above, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1.5))
    draw_sound(sound, audio, spans(tokens, selection))
    above.bar(second + 0.5, timeline.tokens, width=1, color=PRUNED, label="pruned")
    above.bar(second + 0.5, timeline.kept, width=1, color=KEPT, label="kept")
    above.plot(np.add(best, 0.5), timeline.kept[best] + 1, "v", color=TEXT, markersize=4)
    above.set_ylabel("tokens / s")
    above.legend(loc="upper right", ncols=2, frameon=False, bbox_to_anchor=(1, 1.3))
    sound.set_title(caption(tokens, selection, question), loc="left", fontsize=9)
    below.step(second, timeline.scores, where="post", color=KEPT, linewidth=1)
    below.set_ylabel("score")
    below.set_xlabel("time")
    below.set_xlim(0, max(tokens.seconds, 1))
    below.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(at)))
    below.xaxis.set_major_locator(MaxNLocator(10, steps=(1, 1.5, 2, 3, 6, 10), integer=True))
    if said:
        figure.supxlabel("\n".join(said), x=0.01, ha="left", fontsize=7, parse_math=False)
    write(figure, path)


def draw_sound(axes: Axes, audio: Audio, kept: Sequence[tuple[float, float]]) -> None:
    """A mel spectrogram in dB, with a bar over what is kept."""
    import librosa
    import numpy as np

    hop = max(HOP, len(audio.samples) // MOST_COLUMNS)
    mel = librosa.feature.melspectrogram(
        y=audio.samples, sr=SAMPLE_RATE, n_fft=2048, hop_length=hop, n_mels=64
    )
    level = librosa.power_to_db(mel, ref=np.max)
    extent = (0.0, audio.seconds, 0.0, 1.0)
    axes.imshow(level, origin="lower", aspect="auto", extent=extent, cmap="Greys", vmin=-70)
    for start, end in kept:
        axes.axvspan(start, end, color=KEPT, alpha=0.3, linewidth=0)
    axes.set(yticks=[], ylabel="mel bands")


def longest(read: Sequence[Passage]) -> list[str]:
    """The longest passages in order, each as a line."""
    chosen = sorted(read, key=lambda passage: len(passage.text), reverse=True)[:MOST_PASSAGES]
    chosen.sort(key=lambda passage: passage.start)
    lines = [f"{clock(each.start)}-{clock(each.end)}  {each.text}" for each in chosen]
    return [line if len(line) <= LINE else f"{line[: LINE - 1]}…" for line in lines]


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
    """Save as the path's extension says; text is drawn as it is written, `$` too.

    A warning says where the font lacks letters.
    """
    import warnings

    _take_literally(figure)
    with atomic(path) as temporary, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(temporary, dpi=200)
    if any("missing from" in str(each.message) for each in said):
        log.warning("%s: boxes stand for letters that the font of figures lacks", path)


def _take_literally(figure: Figure) -> None:
    """All text but that of ticks, which is matplotlib's own."""
    from matplotlib.text import Text

    axes = [axis for each in figure.axes for axis in (each.xaxis, each.yaxis)]
    ticks = [tick for axis in axes for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())]
    labels = {label for tick in ticks for label in (tick.label1, tick.label2)}
    for text in set(figure.findobj(Text)) - labels:
        text.set_text(printable(text.get_text()))
        text.set_parse_math(False)
