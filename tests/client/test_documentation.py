"""The documentation's examples, run as they stand against the real endpoint, which listens in a thread of this process."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from counterpoint import Completion, Counterpoint
from tests.serving.test_gateway import served

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "client" / "README.md", ROOT / "docs" / "client.md"]
SCRIPT = [
    {"match": "France", "say": "Paris"},
    {"match": "Italy", "say": "Rome"},
    {"match": "weather", "call": {"name": "weather", "arguments": {"city": "Paris"}}},
    {"match": "18 degrees", "say": "It is 18 degrees in Paris."},
    {"match": "as JSON", "say": '{"city": "Paris", "people": 2100000}'},
    {"match": ".", "say": "Hello"},
]
BLOCKS = [
    pytest.param(block, page.name, id=f"{page.name}-{at}")
    for page in PAGES
    for at, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint's address."""
    store = tmp_path_factory.mktemp("endpoint") / "store.db"
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}} for name in "ab"]
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        async with served(name="counterpoint", experts=experts, serving={"store": f"sqlite:///{store}"}) as http:
            app = http._transport.app  # type: ignore[attr-defined]
            settings = uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none")
            servers.append(uvicorn.Server(settings))
            await servers[0].serve()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    end = time.monotonic() + 30
    while not (servers and servers[0].started):
        assert thread.is_alive(), "the endpoint did not start"
        assert time.monotonic() < end, "the endpoint did not start in 30 s"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{servers[0].servers[0].sockets[0].getsockname()[1]}"
    servers[0].should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(("block", "page"), BLOCKS)
def test_the_documented_example_runs(block: str, page: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "http://127.0.0.1:8000" in block
    exec(compile(block.replace("http://127.0.0.1:8000", url), page, "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "Paris" in printed or "404 model_not_found no model is called 'nobody'" in printed


def test_both_pages_have_examples() -> None:
    assert {block.values[1] for block in BLOCKS} == {"README.md", "client.md"}


def test_the_plain_client_does_all_over_a_real_connection(url: str, tmp_path: Path) -> None:
    question = "What is the capital of France?"
    with Counterpoint(url) as mixture:
        assert mixture.models() == ["counterpoint", "a", "b"]
        assert mixture.route(question, k=1).experts == ("a",)
        assert mixture.complete([question, "And of Italy?"]).texts == ("Paris", "Rome")
        assert mixture.explain(question).calls == 2
        answer = mixture.chat(question)
        assert (mixture.feedback(answer.id, 0.5).kept, mixture.trace(answer.id).id) == (True, answer.id)
        assert "".join(chunk.text for chunk in mixture.stream(question)).strip() == "Paris"
        made = mixture.batches.create([question, [{"role": "user", "content": "And of Italy?"}]])
        assert mixture.batches.wait(made.id, 30).status == mixture.batches.get(made.id).status == "completed"
        results = dict(mixture.batches.results(made.id))
        assert {id: result.text for id, result in results.items() if isinstance(result, Completion)} == {
            "request-0": "Paris",
            "request-1": "Rome",
        }
        assert mixture.batches.cancel(made.id).status == "completed"
        file = mixture.files.create(b"one\ntwo\n", "mine.jsonl")
        assert (file.filename, file.size, mixture.files.get(file.id)) == ("mine.jsonl", 8, file)
        assert list(mixture.files.lines(file.id)) == ["one", "two"]
        mixture.files.delete(file.id)
        assert file.id not in {each.id for each in mixture.files.list()}
