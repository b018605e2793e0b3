"""OpenAI's own client against a running endpoint that wants keys."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from serving.keys import Keys
from serving.store import Store

pytestmark = pytest.mark.slow
HELLO = [{"role": "user", "content": "What is the capital of France?"}]


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of an endpoint that wants keys, and a key's secret."""
    folder, at = tmp_path_factory.mktemp("sdk"), port()
    url = f"sqlite:///{folder / 'store.db'}"
    script = [{"match": "France", "say": "Paris"}, {"match": ".", "say": "unsure"}]
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": script}} for name in "ab"]
    serving = {"port": at, "keys": True, "store": url}
    mixture = {"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}, "serving": serving}
    (folder / "m.yaml").write_text(yaml.safe_dump(mixture))
    with Store(url) as store:
        _, secret = Keys(store).create("sdk")
    command = [sys.executable, "-m", "serving.cli", "serve", "-c", str(folder / "m.yaml")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(480):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{at}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.25)
        yield f"http://127.0.0.1:{at}/v1", secret
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture
def client(endpoint: tuple[str, str]) -> Any:
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=endpoint[0], api_key=endpoint[1])


def test_it_chats_in_several_choices_and_streams(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["mix", "a", "b"]
    answer = client.chat.completions.create(model="mix", messages=HELLO, n=2, extra_body={"counterpoint": {"explain": True}})
    assert [choice.message.content for choice in answer.choices] == ["Paris", "Paris"]
    assert len(answer.model_extra["counterpoint"]["choices"]) == 2
    stream = client.chat.completions.create(model="mix", messages=HELLO, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).strip() == "Paris"
    assert chunks[-1].usage.total_tokens > 0


def test_it_completes_prompts(client: Any) -> None:
    assert client.completions.create(model="mix", prompt="France?").choices[0].text == "Paris"
    streamed = client.completions.create(model="mix", prompt="France?", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices).strip() == "Paris"


async def test_it_speaks_asyncio(endpoint: tuple[str, str]) -> None:
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(base_url=endpoint[0], api_key=endpoint[1]) as client:
        answer = await client.chat.completions.create(model="a", messages=HELLO)
    assert answer.choices[0].message.content == "Paris"


def test_it_runs_a_batch(client: Any) -> None:
    base = {"method": "POST", "url": "/v1/chat/completions", "body": {"model": "mix", "messages": HELLO}}
    content = "\n".join(json.dumps({"custom_id": f"line-{at}", **base}) for at in range(20))
    file = client.files.create(file=("in.jsonl", content.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "mine"})
    for _ in range(200):
        if (batch := client.batches.retrieve(batch.id)).status == "completed":
            break
        time.sleep(0.1)
    assert (batch.status, batch.request_counts.completed, batch.metadata["of"]) == ("completed", 20, "mine")
    assert len(client.files.content(batch.output_file_id).text.splitlines()) == 20
    assert batch.id in [each.id for each in client.batches.list()]
    assert client.files.delete(file.id).deleted


def test_its_errors_are_the_clients_own(endpoint: tuple[str, str], client: Any) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=endpoint[0], api_key="cp-wrong").models.list()
    with pytest.raises(openai.NotFoundError, match="no model is called 'nobody'"):
        client.chat.completions.create(model="nobody", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="tools: not supported"):
        client.chat.completions.create(model="mix", messages=HELLO, tools=[{"type": "function", "function": {"name": "f"}}])
