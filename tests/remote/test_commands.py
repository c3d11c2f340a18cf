"""`ask` and `eval` with a server, by the command line."""

from __future__ import annotations

import pytest
from bench_data import answers, read_lines, write_benchmark
from model_server import Fault, ModelServer
from tiny_models import QUESTION

from speechprune_cli.bench.run import Observer, evaluate, resume
from speechprune_cli.errors import UsageError
from speechprune_cli.main import main


class TestCommands:
    """The same with a server as without."""

    ASK = (QUESTION, "--max-new-tokens", "6", "--method", "cue", "--keep", "20%")

    def test_ask(self, server, folders, tmp_path, capsys):
        write_benchmark(tmp_path, "short")
        ask = ["ask", str(tmp_path / "short.wav"), *self.ASK, "-m", str(folders["audio_embeds"])]
        found = []
        for more in ([], ["--server", server.url]):
            assert main([*ask, *more]) == 0
            found.append(capsys.readouterr().out)
        assert found[0] == found[1] != ""
        server.close()
        assert main([*ask, "--server", server.url]) == 6
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)

    @pytest.mark.slow
    def test_eval(self, server, folders, tmp_path):
        data = write_benchmark(tmp_path, "short", "two", "öffen")
        told = {"methods": ["cue"], "keep": ["20%"], "max_new_tokens": 3, "data": data}
        found = []
        for url in (None, server.url):
            output = tmp_path / f"run {url is None}"
            done = evaluate(
                "jsonl", model=str(folders["audio_embeds"]), output=output, server=url, **told
            )
            assert done.errors == 0
            found.append(answers(read_lines(done.folder)))
        assert dict(map(rounded, found[1].items())) == dict(map(rounded, found[0].items()))
        with pytest.raises(UsageError, match="was begun without --server: leave it out"):
            resume(tmp_path / "run True", server=server.url)
        moved = ModelServer(server.lm)
        server.close()
        resume(tmp_path / "run False", server=moved.url)
        moved.close()

    @pytest.mark.slow
    def test_a_run_that_is_interrupted_waits_for_no_answer(self, server, folders, tmp_path):
        class Impatient(Observer):
            def on_line(self, line):
                server.faults = [Fault(sleeps=500)] * 1000
                raise KeyboardInterrupt

        data = write_benchmark(tmp_path)
        told = {"model": str(folders["audio_embeds"]), "output": tmp_path / "run", "data": data}
        amounts = {"methods": ["cue"], "keep": ["20%"]}
        with pytest.raises(KeyboardInterrupt):
            evaluate("jsonl", **told, **amounts, server=server.url, observer=Impatient())


def rounded(item):
    """Options' probabilities to four places."""
    key, line = item
    for given in line["answers"]:
        given["probabilities"] = [round(each, 4) for each in given["probabilities"] or ()]
    return key, line
