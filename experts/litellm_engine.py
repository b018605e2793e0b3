"""Experts of any provider that LiteLLM knows; the only module that imports it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from data.records import Call, Usage
from experts.base import EngineError, ExpertSpec
from experts.chat import prepare
from experts.choices import first_token, logprobs_of
from experts.extras import PARAMETERS, Calls, Tokens, more_of, plain
from experts.remote import End, RemoteEngine, RemoteError, api_key


class LiteLLMEngine(RemoteEngine):
    """Ask remote experts through LiteLLM, streamed; its telemetry and its download of prices are off.

    Args:
        specs: The experts; `model` is LiteLLM's name, such as `openai/gpt-5-mini`.
        concurrency: Largest number of calls under way at once.
    """

    _litellm: Any = None

    async def start(self) -> None:
        """Import LiteLLM and check the keys."""
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import asks the network for prices
        try:
            import litellm
        except ImportError as error:
            raise EngineError("the litellm engine needs LiteLLM: install counterpoint[remote]") from error
        litellm.telemetry = False
        litellm.suppress_debug_info = True
        litellm.drop_params = True
        # the first completion imports seconds' worth of modules, which must not count against a caller's timeout
        await litellm.acompletion(
            model="openai/none", messages=[{"role": "user", "content": "ready?"}], mock_response="ready", api_key="none"
        )
        await super().start()
        self._litellm = litellm

    async def _ask(self, spec: ExpertSpec, call: Call) -> AsyncIterator[str | End]:
        sampling = call.sampling
        settings: dict[str, Any] = {
            "stop": list(sampling.stop) or None,
            "seed": sampling.seed,
            "api_base": spec.api_base,
            "api_key": api_key(spec),
            **more_of(sampling),
        }
        self._refuse_drops(spec, settings, optional=("logprobs", "top_logprobs") if sampling.choices else ())
        reason: str | None = None
        usage: Any = None
        pieces = 0
        told: list[tuple[str, float]] = []
        calls, tokens = Calls(call.id), Tokens(sampling)
        try:
            stream = await self._litellm.acompletion(
                model=spec.model,
                messages=prepare(spec, call.messages),
                max_tokens=spec.limit(sampling),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                stream=True,
                stream_options={"include_usage": True},
                timeout=spec.timeout_s,
                max_retries=0,
                num_retries=0,
                **{name: value for name, value in settings.items() if value is not None},
            )
            async for chunk in stream:
                usage = getattr(chunk, "usage", None) or usage
                for choice in chunk.choices[:1]:
                    reason = choice.finish_reason or reason
                    told = told or first_token(getattr(choice, "logprobs", None))
                    calls.take([plain(each) for each in getattr(choice.delta, "tool_calls", None) or ()])
                    tokens.take(plain(getattr(choice, "logprobs", None)))
                    if piece := choice.delta.content:
                        pieces += 1
                        yield piece
        except Exception as failure:  # LiteLLM has an error for every provider's every mood
            status = getattr(failure, "status_code", None)
            headers = getattr(getattr(failure, "response", None), "headers", None) or {}
            if status is None:
                raise RemoteError(f"{spec.model}: {type(failure).__name__}: {failure}"[:300], retry=True) from failure
            raise RemoteError.of_status(spec.model, int(status), failure, headers.get("retry-after")) from failure
        prompt = int(usage.prompt_tokens) if usage else 0
        completion = int(usage.completion_tokens) if usage else pieces
        priced = Usage(prompt, completion, spec.cost_usd(prompt, completion), calls=1)
        yield End(reason or "stop", priced, logprobs_of(sampling.choices, told), calls.made(), tokens.made())

    def _refuse_drops(self, spec: ExpertSpec, settings: dict[str, Any], optional: Sequence[str]) -> None:
        """Refuse what LiteLLM would leave out without a word because a provider cannot do it.

        Raises:
            RemoteError: There is such a setting.
        """
        wanted = [name for name in (*PARAMETERS,) if name in settings and name not in optional]
        if wanted:
            known = self._litellm.get_supported_openai_params(model=spec.model) or ()
            if dropped := [name for name in wanted if name not in known]:
                raise RemoteError(f"{spec.model} takes no {dropped[0]} by LiteLLM: say in the expert's `can` what it can", retry=False)

    async def stop(self) -> None:
        """Forget the module."""
        await super().stop()
        self._litellm = None
