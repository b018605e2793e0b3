import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from serving import cli
from serving.journal import Journal

Run = Callable[..., tuple[int, str, str]]


def line(custom_id: str, question: str, **body: object) -> str:
    asked = {"model": "mix", "messages": [{"role": "user", "content": question}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked})


def rows_of(path: Path) -> dict[str, dict[str, object]]:
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    assert len({row["custom_id"] for row in rows}) == len(rows), "no line may stand twice"
    return {row["custom_id"]: row for row in rows}


def test_ask_prints_the_answer_and_explains_it(run: Run, mixture: Callable[..., Path]) -> None:
    code, out, _ = run("ask", "-c", mixture(), "What is the capital of France?", "--explain")
    assert code == 0
    assert out.splitlines()[0] == "Paris"
    assert "vote: 'Paris' 2.00  'Rome' 1.00" in out


def test_ask_prints_json(run: Run, mixture: Callable[..., Path]) -> None:
    code, out, _ = run("ask", "-c", mixture(), "What is the capital of France?", "--json", "--explain")
    body = json.loads(out)
    assert (code, body["text"], body["calls"]) == (0, "Paris", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  "], "the question is empty"),
        (["hi", "--aggregator", "guess"], "no aggregator is called 'guess'"),
        (["please break", "--k", "2"], "no expert answered: a: told to fail"),
        (["please die", "--k", "1"], "no expert answered: a: the engine of 'a' died"),
    ],
)
def test_a_request_that_cannot_be_answered_is_one_line_and_exit_code_2(
    run: Run, mixture: Callable[..., Path], arguments: list[str], message: str
) -> None:
    code, out, err = run("ask", "-c", mixture(), *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("counterpoint: ")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_question_of_100000_characters_is_refused_in_one_line(run: Run, mixture: Callable[..., Path]) -> None:
    code, out, err = run("ask", "-c", mixture(), "capital of France? " * 5500, "--k", "1")
    assert (code, out) == (2, "")
    assert "holds 2048 tokens; shorten the prompt or lower max_tokens" in err


def test_a_mistake_in_the_config_is_one_line_and_exit_code_2(run: Run, mixture: Callable[..., Path]) -> None:
    code, _, err = run("ask", "-c", mixture(agregator={}), "hi")
    assert code == 2
    assert err.strip().endswith("agregator: no such key; did you mean aggregator?")


def test_batch_answers_every_line_and_gives_broken_ones_their_own_error(run: Run, mixture: Callable[..., Path], tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [
        line("one", "What is the capital of France?"),
        "this is no JSON",
        line("two", "please break", counterpoint={"experts": ["a"]}),
        line("three", "  "),
        line("one", "again"),
        line("four", "hi", temperature="warm"),
        line("five", "hi", model="other"),
        line("six", "hi", counterpoint={"experts": ["nobody"]}),
        line("seven", "capital of France", counterpoint={"k": 1}),
        line("eight", "please die", counterpoint={"k": 1}),
        line("nine", "hi", counterpoint={"aggregator": "guess"}),
    ]
    source.write_text("\n".join(lines) + "\n")
    code, out, _ = run("batch", "-c", mixture(), "-i", source, "-o", output)
    assert code == 2  # some lines failed, and the exit code says so
    assert "11 of 11 requests" in out
    rows = rows_of(output)
    assert rows["one"]["response"]["body"]["choices"][0]["message"]["content"] == "Paris"  # type: ignore[index]
    assert rows["seven"]["response"]["body"]["choices"][0]["message"]["content"] == "Paris"  # type: ignore[index]
    assert "line 2 is no JSON" in str(rows["line-2"]["error"])
    assert "told to fail" in str(rows["two"]["response"])
    assert "the question is empty" in str(rows["three"])
    assert "stands twice" in str(rows["one#5"]["error"])
    assert "temperature" in str(rows["four"]["error"])
    assert "no model is called 'other'" in str(rows["five"]["error"])
    assert "no expert is called 'nobody'" in str(rows["six"])
    assert "the engine of 'a' died" in str(rows["eight"])
    assert "no aggregator is called 'guess'" in str(rows["nine"])


def test_batch_runs_again_without_asking_again(run: Run, mixture: Callable[..., Path], tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(line("one", "capital of France") + "\n")
    assert run("batch", "-c", mixture(), "-i", source, "-o", output)[0] == 0
    before = output.read_text()
    code, out, _ = run("batch", "-c", mixture(), "-i", source, "-o", output, "--json")
    assert (code, json.loads(out)) == (0, {"total": 1, "done": 1, "failed": 0, "resumed": 1})
    assert output.read_text() == before


@pytest.mark.parametrize("name", ["missing/\0bad", "/proc/none/out.jsonl"])
def test_batch_tells_an_unwritable_path_before_it_starts(run: Run, mixture: Callable[..., Path], tmp_path: Path, name: str) -> None:
    if "\0" in name:
        (tmp_path / "file").write_text("")
        name = str(tmp_path / "file" / "out.jsonl")
    source = tmp_path / "in.jsonl"
    source.write_text(line("one", "hi") + "\n")
    code, _, err = run("batch", "-c", mixture(), "-i", source, "-o", name)
    assert code == 2
    assert "cannot write" in err
    assert len(err.strip().splitlines()) == 1


def test_batch_refuses_a_foreign_file_as_output(run: Run, mixture: Callable[..., Path], tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(line("one", "hi") + "\n")
    output.write_text("dear diary\n")
    code, _, err = run("batch", "-c", mixture(), "-i", source, "-o", output)
    assert code == 2
    assert "is not the work of an earlier run" in err
    assert output.read_text() == "dear diary\n"


def test_two_batches_cannot_write_one_file(run: Run, mixture: Callable[..., Path], tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(line("one", "hi") + "\n")
    with Journal(output):
        code, _, err = run("batch", "-c", mixture(), "-i", source, "-o", output)
    assert code == 2
    assert "another run is writing" in err


def test_batch_killed_in_the_middle_loses_and_doubles_no_line(run: Run, mixture: Callable[..., Path], tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    slow = [{"match": f"number {at}$", "say": f"answer {at}", "delay_s": 0.05 * at} for at in range(60)]
    config = mixture(experts=[{"name": "a", "model": "-", "engine": "scripted", "options": {"script": slow}}])
    source.write_text("".join(line(f"q{at}", f"number {at}") + "\n" for at in range(60)))
    command = [sys.executable, "-m", "serving.cli", "batch", "-c", str(config), "-i", str(source), "-o", str(output)]
    process = subprocess.Popen(command, cwd=Path(cli.__file__).parent.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not output.exists() or output.read_text().count("\n") < 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = output.read_text().count("\n")
    assert 5 <= survived < 60, "the run must have been killed in the middle"
    code, out, _ = run("batch", "-c", config, "-i", source, "-o", output, "--json")
    assert code == 0
    assert json.loads(out)["resumed"] >= survived - 1
    rows = rows_of(output)
    assert len(rows) == 60
    assert all(rows[f"q{at}"]["response"]["body"]["choices"][0]["message"]["content"] == f"answer {at}" for at in range(60))  # type: ignore[index]


def test_profile_fit_eval_and_replay_work_together(run: Run, mixture: Callable[..., Path], tmp_path: Path) -> None:
    tasks, scores, router = tmp_path / "tasks.jsonl", tmp_path / "scores.parquet", tmp_path / "router"
    families = [part for name in ("dates", "comparison") for part in ("--family", name)]
    assert run("tasks", "--split", "train", "--split", "test", "--per-family", 6, *families, "-o", tasks)[0] == 0
    code, out, _ = run("profile", "-c", mixture(), "--tasks", tasks, "-o", scores)
    assert code == 0
    assert "72 answers" in out
    assert not scores.with_suffix(".partial.jsonl").exists()
    table = pd.read_parquet(scores)
    assert set(table["expert"]) == {"a", "b", "c"}
    for kind in ("knn", "linear"):
        assert run("router", "fit", "--scores", scores, "--kind", kind, "-o", router)[0] == 0
        code, out, _ = run("router", "eval", router, "--scores", scores, "--json")
        assert code == 0
        report = json.loads(out)
        assert report["n"] == 12
        assert report["by_category"].keys() == {"dates", "comparison"}
        assert 0 <= report["accuracy"] <= report["oracle"] <= 1
    code, out, _ = run("replay", "--scores", scores, "--router", router, "--k", 3, "--aggregator", "vote")
    assert code == 0
    assert "mixture-k3" in out
    code, _, err = run("replay", "--scores", scores, "--router", router, "--aggregator", "fuse")
    assert code == 2
    assert "asks an LLM" in err


def test_router_kinds_lists_every_kind(run: Run) -> None:
    code, out, _ = run("router", "kinds")
    assert code == 0
    assert "knn" in out
    assert "linear" in out


def test_every_command_has_help_with_an_example(run: Run) -> None:
    for command in ("demo", "ask", "tasks", "profile", "replay", "batch", "check", "serve", "chat"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert "Example:" in out, command


def test_commands_work_from_a_folder_with_modules_of_the_same_names(mixture: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").write_text("raise RuntimeError('the wrong data')")
    (tmp_path / "app.py").write_text("raise RuntimeError('the wrong app')")
    script = Path(sys.executable).parent / "counterpoint"
    done = subprocess.run(
        [script, "ask", "-c", str(mixture()), "What is the capital of France?"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "Paris"), done.stderr
