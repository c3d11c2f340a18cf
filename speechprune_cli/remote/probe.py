"""Whether a server answers as the model does: fixed prompts, and the tokens that are right.

Those are computed with the whole decoder once per revision, and kept in `<cache>/probes`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Self

from speechprune_cli.atomic import atomic
from speechprune_cli.cache import TokenCache
from speechprune_cli.errors import OutOfMemoryError, ServerError
from speechprune_cli.flow import AudioTokens, Prompt, Selection
from speechprune_cli.folders import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    from speechprune_cli.backends.base import SpeechLM
    from speechprune_cli.remote.reader import RemoteReader

log = logging.getLogger("speechprune")
FORMAT = 2  # of what is kept, and of the prompts
HEARD = "The report is due on Friday, and nobody has lived in the red house since the spring."
"""What stands for audio: its words' embeddings are the same on every machine."""
QUESTIONS = ("When is the report due?", "Who lives in the red house?", "Repeat all you heard.")
STEPS, TOLD = 8, 20  # tokens of each answer, and of the likeliest at each
LIKELY = 0.3
"""How much likelier the right token may be than the one that a server takes in its place: what
16 bits, or another order of additions, may tip."""


@dataclass(frozen=True)
class Right:
    """The beginning of an answer."""

    ids: list[int]  # up to an end token, which is the last then
    texts: list[str]  # all of it that is said so far, at each
    others: list[dict[str, float]]  # at each: by their ids, how much less likely tokens are
    instead: list[dict[str, str]]  # at each: by their ids, all of the text that ends with them

    def cut(self, count: int) -> Self:
        """Its first tokens."""
        return type(self)(*(each[:count] for each in vars(self).values()))


def check_answers(reader: RemoteReader, load_whole: Callable[[], SpeechLM]) -> str:
    """Compare the answers, now and whenever the server comes back; a line that says so.

    Raises ServerError where they differ.
    """
    model = reader.model
    prompts = [probe(model, question) for question in QUESTIONS]
    try:
        rights = right_answers(model, prompts, load_whole)
    except OutOfMemoryError as error:
        told = f"the server's answers are not compared with {model.preset.name}'s: {error}"
        log.warning("%s", told)
        return told
    reader.find_behind(prompts[0])
    reader.verify = partial(compare, reader, prompts, rights)
    reader.verify()
    return f"the server answers {len(rights)} fixed prompts as {model.preset.name} does"


def compare(reader: RemoteReader, prompts: Sequence[Prompt], rights: Sequence[Right]) -> None:
    """Raises ServerError where the server's answers are not the right ones."""
    ways = dict.fromkeys((reader.way, reader.behind))
    for way, (prompt, right) in product(ways, zip(prompts, rights, strict=True)):
        begun = right.cut(reader.room(prompt, len(right.ids)))
        ids, text, ended = reader.beginning(prompt, len(begun.ids) + 1, way)
        ends = reader.model.end_tokens
        if not (alike(begun, ids) if ids is not None else alike_text(begun, text, ended, ends)):
            wanted = begun.texts[-1]
            raise ServerError(
                f"{reader.client.address.url} answers a fixed prompt with {text!r}, "
                f"{reader.model.preset.name} with {wanted!r}: it serves other weights or another "
                "chat template, or cannot serve this decoder"
            )


def alike(right: Right, ids: Sequence[int]) -> bool:
    """Whether tokens are the right ones, up to the first that is about as likely."""
    for at, wanted in enumerate(right.ids):
        if at == len(ids) or ids[at] != wanted:
            found = None if at == len(ids) else str(ids[at])
            return right.others[at].get(found or "", LIKELY) < LIKELY
    return True


def alike_text(right: Right, text: str, ended: bool, ends: Set[int]) -> bool:
    """The same for who tells no ids: the text goes on, or has ended, as it should or might.

    `ends` are the end tokens, `text` a token longer than what is right.
    """

    def fits(token: int, whole: str) -> bool:
        said = whole.strip().rstrip("\ufffd")
        return text == said and ended if token in ends else text.startswith(said)

    before = ""
    for at, (token, whole) in enumerate(zip(right.ids, right.texts, strict=True)):
        if not fits(token, whole):
            near = (int(other) for other, less in right.others[at].items() if less < LIKELY)
            found = ((other, right.instead[at][str(other)]) for other in near)
            return any(fits(*each) for each in found if each[0] in ends or adds(each[1], before))
        before = whole
    return True


def adds(whole: str, before: str) -> bool:
    """Whether a text says more than its beginning, in whole characters."""
    return whole.strip().rstrip("\ufffd") != before.strip().rstrip("\ufffd")


def probe(model: SpeechLM, question: str) -> Prompt:
    """A fixed prompt, all of its audio retained."""
    import torch

    ids = model.text_ids(HEARD)
    embeds = model.embed(ids)
    times = torch.arange(len(ids) + 1, dtype=torch.float32).unfold(0, 2, 1)
    words = torch.tensor(ids) if model.writes else None
    tokens = AudioTokens(embeds, times, 1.0, len(ids), 0.0, torch.zeros(len(ids)), ids=words)
    kept = Selection(torch.arange(len(ids)), torch.zeros(len(ids)), "full", "", len(ids), 0.0)
    return model.build_prompt(tokens, kept, question)


def right_answers(
    model: SpeechLM, prompts: Sequence[Prompt], load_whole: Callable[[], SpeechLM]
) -> list[Right]:
    """From the folder where they are kept, or computed now. Raises OutOfMemoryError, ModelError."""
    key = TokenCache.key(
        probe=FORMAT,
        model=model.preset.source,
        revision=model.revision,
        dtype=str(model.dtype),
        prompts=json.dumps([[*each.before, -1, *each.after] for each in prompts]),
    )
    path = cache_folder("probes") / f"{key}.json"
    try:
        return [Right(**each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        whole = load_whole()
        rights = [compute(whole, probe(whole, question)) for question in QUESTIONS]
        keep(path, [asdict(each) for each in rights])
        return rights


def keep(path: Path, content: Any) -> None:
    """Raises SpeechPruneError where the system refuses to write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def compute(whole: SpeechLM, prompt: Prompt) -> Right:
    """The likeliest tokens, one after the other."""
    import torch

    from speechprune_cli.backends.decoding import read_prompts

    ids: list[int] = []
    texts, others, instead = [], [], []
    with torch.no_grad():
        state, logits = read_prompts(whole, [prompt])
        while True:
            values, tokens = logits[0].float().log_softmax(-1).topk(min(TOLD, logits.shape[-1]))
            likely = tokens.tolist()
            others.append(dict(zip(map(str, likely), (values[0] - values).tolist(), strict=True)))
            instead.append({str(token): whole.text_of([*ids, token]) for token in likely})
            ids.append(likely[0])
            texts.append(instead[-1][str(ids[-1])])
            if len(ids) == STEPS or ids[-1] in whole.end_tokens:
                return Right(ids, texts, others, instead)
            logits = whole.head(state.read_on(tokens[None, :1])[:, -1])
