"""Experts on transformers: the engine of machines without vLLM, one base model and its LoRA adapters through peft."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from data.records import Answer, Call, Delta, Done, TokenLogprob, Usage
from experts.base import EngineError, Event, ExpertSpec
from experts.chat import prompt_ids, stops
from experts.choices import LEAST, logprobs_of, tokens_of
from experts.memory import number_type
from experts.models import resolve


class TransformersEngine:
    """Run one base model and its adapters in this process.

    In float32 calls run one at a time, so that an answer never depends on what else is asked; in other types calls of one
    expert that come together run as one batch.

    Args:
        specs: The experts that share the engine: one base, any number of adapters on it.
        batch: Largest number of calls generated together; None is 1 in float32 and 8 otherwise.
    """

    whole_batches = True
    """Calls given together run as one batch, which ends together."""

    def __init__(self, specs: Sequence[ExpertSpec], batch: int | None = None) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.base = next((spec for spec in specs if spec.adapter is None), specs[0])
        self.dtype = number_type(self.base)
        self.batch = batch or (1 if self.dtype == "float32" else 8)
        self._model: Any = None
        self._tokenizer: Any = None
        self._lock = threading.Lock()  # one generation at a time: the chosen adapter is the model's state

    @property
    def memory_bytes(self) -> int:
        """Bytes of the weights."""
        return 0 if self._model is None else sum(p.numel() * p.element_size() for p in self._model.parameters())

    async def start(self) -> None:
        """Load the weights."""
        await asyncio.to_thread(self._build)

    def _build(self) -> None:
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer, logging
        except ImportError as error:
            raise EngineError("the transformers engine needs torch and transformers: install counterpoint[local]") from error
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its report of an adapter lists the base's weights as missing
        folder = resolve(self.base.model, self.base.revision)
        self._device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        trust = self.base.trust_remote_code
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, self.dtype), trust_remote_code=trust)
        model.generation_config.do_sample = False
        for spec in (spec for spec in self.specs.values() if spec.adapter):
            if not (Path(str(spec.adapter)) / "adapter_config.json").is_file():
                raise EngineError(f"the adapter of {spec.name!r} is not at {spec.adapter}: no adapter_config.json there")
            model.load_adapter(str(spec.adapter), adapter_name=spec.name)
        self._model = model.to(self._device).eval()

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        """Answer calls, expert by expert."""
        if self._model is None:
            raise EngineError(f"the engine of {self.base.name!r} is not running: start it first")
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        abandoned = threading.Event()

        def put(event: Event | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def work() -> None:
            try:
                for _, same in groupby(sorted(calls, key=lambda c: (c.expert, repr(c.sampling))), key=lambda c: (c.expert, c.sampling)):
                    group = list(same)
                    for at in range(0, len(group), self.batch):
                        if not abandoned.is_set():
                            self._generate(group[at : at + self.batch], put, abandoned)
            finally:
                put(None)

        thread = threading.Thread(target=work, name=f"transformers-{self.base.name}", daemon=True)
        thread.start()
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            abandoned.set()

    def _generate(self, calls: list[Call], put: Any, abandoned: threading.Event) -> None:
        """Run one batch of calls to one expert with one sampling."""
        spec, sampling, start = self.specs[calls[0].expert], calls[0].sampling, time.monotonic()
        rows, ready = [], []
        for call in calls:
            try:
                rows.append(prompt_ids(spec, self._tokenizer, call.messages, spec.limit(sampling)))
                ready.append(call)
            except Exception as error:  # a template may refuse the order of roles, a tokenizer the text: that ends this call only
                text = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
                put(Done(call.id, Answer.failed(call.expert, " ".join(text.split()))))
        if not ready:
            return
        try:
            texts, counts, cut, told, likely = self._run(spec, sampling, rows, ready, put, abandoned)
        except Exception as error:  # out of memory and the like: the calls of this batch end, the engine goes on
            for call in ready:
                put(Done(call.id, Answer.failed(call.expert, f"{type(error).__name__}: {error}", time.monotonic() - start)))
            return
        for call, row, text, count, over, known, tokens in zip(ready, rows, texts, counts, cut, told, likely, strict=True):
            usage = Usage(len(row), count, spec.cost_usd(len(row), count), calls=1)
            reason = "stop" if over else "length"
            seconds, logprobs = time.monotonic() - start, logprobs_of(sampling.choices, known)
            put(Done(call.id, Answer(text.strip(), call.expert, usage, reason, seconds, logprobs=logprobs, tokens=tokens)))

    def _run(
        self, spec: ExpertSpec, sampling: Any, rows: list[list[int]], calls: list[Call], put: Any, abandoned: threading.Event
    ) -> tuple[list[str], list[int], list[bool], list[list[tuple[str, float]]], list[tuple[TokenLogprob, ...]]]:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        tokenizer, width = self._tokenizer, max(map(len, rows))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows], device=self._device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self._device)
        ends = [*sampling.stop, *stops(spec, tokenizer)]
        said = [""] * len(rows)
        engine = self

        class Watch(StoppingCriteria):
            """Stream what is new, and end rows at stop strings or when nobody listens any more."""

            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                over = []
                for i, new in enumerate(input_ids[:, width:]):
                    text = _held_back(engine._text(new.tolist(), ends), ends)
                    if len(text) > len(said[i]) and not text.endswith("�"):
                        put(Delta(calls[i].id, text[len(said[i]) :]))
                        said[i] = text
                    over.append(abandoned.is_set() or engine._cut(tokenizer.decode(new, skip_special_tokens=True), ends)[1])
                return torch.tensor(over, device=input_ids.device)

        how: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        if sampling.temperature > 0:
            how |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        with self._lock, torch.inference_mode():
            adapters = [name for name, other in self.specs.items() if other.adapter]
            if adapters:
                if spec.adapter:
                    self._model.enable_adapters()
                    self._model.set_adapter(spec.name)
                else:
                    self._model.disable_adapters()
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            made = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=spec.limit(sampling),
                pad_token_id=tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([Watch()]),
                return_dict_in_generate=True,
                output_logits=bool(sampling.choices) or sampling.top_logprobs is not None,
                **how,
            )
        news = [row[width:].tolist() for row in made.sequences]
        told = self._told(sampling.choices, made.logits[0]) if sampling.choices else [[] for _ in rows]
        whole = [self._tokenizer.decode(new, skip_special_tokens=True) for new in news]
        over = [self._ending(new) or self._cut(text, ends)[1] for new, text in zip(news, whole, strict=True)]
        for call, text, shown in zip(calls, (self._text(new, ends) for new in news), said, strict=True):
            if len(text) > len(shown):  # what was held back, in case it had become a stop string
                put(Delta(call.id, text[len(shown) :]))
        counts, most = [self._count(new) for new in news], sampling.top_logprobs
        likely = [() if most is None else self._likely(made.logits, at, new, most) for at, new in enumerate(news)]
        return [self._text(new, ends) for new in news], counts, over, told, likely

    def _likely(self, logits: Any, row: int, new: list[int], most: int) -> tuple[TokenLogprob, ...]:
        """The log-probabilities of a row's tokens up to its end, each with so many of the likeliest in its place."""
        tokens = []
        for step, id in zip(logits, new[: self._count(new) - self._ending(new)], strict=False):
            known = step[row].float().log_softmax(-1)
            best = known.topk(most) if most else None
            pairs = [] if best is None else zip(best.indices.tolist(), best.values.tolist(), strict=True)
            top = tuple((self._tokenizer.decode([other]), max(value, LEAST)) for other, value in pairs)
            tokens.append(TokenLogprob(self._tokenizer.decode([id]), max(known[id].item(), LEAST), top))
        return tuple(tokens)

    def _told(self, choices: Sequence[str], logits: Any) -> list[list[tuple[str, float]]]:
        """The log-probabilities of the tokens of choices, for each row of the first step's logits."""
        ids = [(choice, id) for choice in choices for id in tokens_of(self._tokenizer, choice)]
        return [[(choice, row[id].item()) for choice, id in ids] for row in logits.float().log_softmax(-1)]

    def _ends(self) -> set[int]:
        ending = self._model.generation_config.eos_token_id
        return set(ending) if isinstance(ending, list) else {ending}

    def _ending(self, new: list[int]) -> bool:
        """Tell whether the model ended the text itself."""
        return not self._ends().isdisjoint(new)

    def _count(self, new: list[int]) -> int:
        """Count the generated tokens up to the first end of sequence, which counts too, as in vLLM."""
        ends = self._ends()
        return next((at + 1 for at, token in enumerate(new) if token in ends), len(new))

    def _text(self, new: list[int], ends: list[str]) -> str:
        return self._cut(self._tokenizer.decode(new[: self._count(new)], skip_special_tokens=True), ends)[0]

    @staticmethod
    def _cut(text: str, ends: list[str]) -> tuple[str, bool]:
        at = min((found for end in ends if (found := text.find(end)) >= 0), default=-1)
        return (text, False) if at < 0 else (text[:at], True)

    async def sleep(self, level: int = 1) -> None:
        """Not offered: stop and start."""
        raise EngineError("the transformers engine has no sleep mode; stop and start")

    async def wake(self) -> None:
        """Not offered: stop and start."""
        raise EngineError("the transformers engine has no sleep mode; stop and start")

    async def stop(self) -> None:
        """Let the weights go."""
        self._model = None


def _held_back(text: str, ends: list[str]) -> str:
    r"""A text without what may become a stop string.

    Example:
        >>> _held_back("four\nQues", ["\nQuestion:"])
        'four'
    """
    longest = max((size for end in ends for size in range(1, len(end)) if text.endswith(end[:size])), default=0)
    return text[: len(text) - longest]
