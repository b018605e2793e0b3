"""What an expert is, and what every engine that runs one promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from data.records import Call, CounterpointError, Delta, Done, Message, Sampling, Usage, bytes_of

Event = Delta | Done


class EngineError(CounterpointError):
    """An engine that cannot start or cannot answer."""


class EngineDied(EngineError):
    """An engine that ended while it answered; started again, it may well answer."""


class Overloaded(EngineError):
    """A call that could not start in time, refused on arrival.

    Attributes:
        retry_after_s: Seconds after which it would be accepted, by what waits now.
    """

    def __init__(self, expert: str, retry_after_s: float) -> None:
        super().__init__(f"{expert!r} has more to do than it can start in time: try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """One expert as an engine sees it.

    Attributes:
        name: The expert's name in the mixture.
        model: Folder, hub id or `packaged:` name of the weights, or the remote model's id.
        engine: Kind of engine (`experts.ENGINES`).
        adapter: Folder of a LoRA adapter on the model, or None.
        revision: Revision on the hub.
        system: System message put before conversations that have none.
        chat_template: Jinja text that replaces the model's own template.
        max_model_len: Largest number of prompt and generated tokens together.
        max_tokens: Limit of an answer where the caller gives none.
        dtype: `bfloat16`, `float16` or `float32`; None is the engine's own choice.
        quantization: vLLM's name of a quantisation, or None.
        gpus: GPUs of one replica; above one is tensor parallelism, 0 is the CPU.
        trust_remote_code: Whether code that comes with the weights may run.
        price: US dollars per million prompt and generated tokens.
        api_base: Base URL of a remote expert.
        api_key_env: Environment variable that holds a remote expert's key.
        timeout_s: Seconds that a remote expert may take for one answer.
        size_b: Parameters in billions, for weights that are not here yet; 0 where not known.
        options: Settings of one engine only, such as the script of a scripted one.
        can: What it can beside writing text (`experts.abilities`), or None for all that its engine offers.
    """

    name: str
    model: str
    engine: str
    adapter: str | None = None
    revision: str | None = None
    system: str | None = None
    chat_template: str | None = None
    max_model_len: int = 2048
    max_tokens: int = 256
    dtype: str | None = None
    quantization: str | None = None
    gpus: int = 0
    trust_remote_code: bool = False
    price: tuple[float, float] = (0.0, 0.0)
    api_base: str | None = None
    api_key_env: str | None = None
    timeout_s: float = 120.0
    size_b: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    can: tuple[str, ...] | None = None

    @property
    def engine_key(self) -> str:
        """Name of the engine that can serve this expert; adapters of one base share theirs."""
        return f"{self.engine}:{self.model}:{self.revision or ''}:{self.dtype or ''}:{self.quantization or ''}"

    @property
    def needs_slot(self) -> bool:
        """Whether the expert takes a slot's memory; `options["slot"]` puts a scripted one there."""
        return self.engine in ("vllm", "transformers") or bool(self.options.get("slot"))

    def limit(self, sampling: Sampling) -> int:
        """Largest number of tokens that an answer may have.

        Example:
            >>> ExpertSpec("a", "m", "vllm", max_tokens=64).limit(Sampling())
            64
        """
        return self.max_tokens if sampling.max_tokens is None else sampling.max_tokens

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Price of one answer, in US dollars.

        Example:
            >>> ExpertSpec("far", "m", "openai", price=(0.25, 2.0)).cost_usd(1_000_000, 500_000)
            1.25
        """
        return (prompt_tokens * self.price[0] + completion_tokens * self.price[1]) / 1e6

    def most(self, messages: Sequence[Message], sampling: Sampling) -> Usage:
        """The most that one answer can take: a prompt has at most as many tokens as bytes, and a few for what a template adds.

        Example:
            >>> ExpertSpec("far", "m", "openai", price=(1.0, 2.0)).most([Message("user", "Hi")], Sampling(max_tokens=100))
            Usage(prompt_tokens=82, completion_tokens=100, cost_usd=0.000282, calls=1)
        """
        prompt = bytes_of(messages, sampling) + 16 * len(messages) + 64 + len((self.system or "").encode())
        return Usage(prompt, self.limit(sampling), self.cost_usd(prompt, self.limit(sampling)), calls=1)


class Engine(Protocol):
    """Runs one model and the adapters on it.

    `generate` yields pieces of text as they are written (`Delta`) and, for every call, exactly one `Done`.
    A call that fails ends in a `Done` whose answer bears the error; the other calls go on.
    """

    @property
    def memory_bytes(self) -> int:
        """Bytes that the weights and the cache take, 0 before `start`."""
        ...

    async def start(self) -> None:
        """Load the weights.

        Raises:
            EngineError: They are not there or do not fit.
        """
        ...

    def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        """Answer calls, several at a time where the engine can; closing the iterator abandons those that run."""
        ...

    async def sleep(self, level: int = 1) -> None:
        """Give the memory back and keep what a quick `wake` needs.

        Raises:
            EngineError: The platform cannot; `stop` and `start` are the way.
        """
        ...

    async def wake(self) -> None:
        """Undo `sleep`."""
        ...

    async def stop(self) -> None:
        """End the engine and give its memory back; stopping twice is no error."""
        ...
