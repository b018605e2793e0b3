"""A slot's swaps, without Ray: bytes are reserved, a wake is verified, what fails is rolled back."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from data.records import Answer, Call, Done, Message
from experts import EngineError, ExpertSpec, memory
from experts.base import Event
from experts.memory import engine_bytes, number_type, read_ahead, weight_bytes
from experts.slot import Slot
from experts.vllm_settings import settings_of


class Sleeper:
    """A real engine in all but the model: it can sleep, and do so badly."""

    made: ClassVar[list["Sleeper"]] = []

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        self.spec, self.awake, self.words = specs[0], False, "one two"
        Sleeper.made.append(self)

    @property
    def memory_bytes(self) -> int:
        return int(self.spec.options["memory_bytes"])

    async def start(self) -> None:
        if self.spec.options.get("broken"):
            raise EngineError("it cannot start")
        self.awake = True

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        assert self.awake
        for call in calls:
            yield Done(call.id, Answer(self.words, call.expert))

    async def sleep(self, level: int = 1) -> None:
        if self.spec.options.get("sleepless"):
            raise EngineError("it cannot sleep")
        self.awake = False

    async def wake(self) -> None:
        fault = self.spec.options.get("fault")
        if fault == "wake":
            raise EngineError("it cannot wake")
        self.awake = True
        if fault == "words":
            self.words = "other weights"

    async def stop(self) -> None:
        self.awake = False


@pytest.fixture(autouse=True)
def sleepers(monkeypatch: pytest.MonkeyPatch) -> None:
    Sleeper.made = []
    monkeypatch.setattr("experts.make_engine", Sleeper)


def spec(name: str, size: int = 60, **options: object) -> list[ExpertSpec]:
    return [ExpertSpec(name, name, "scripted", options={"memory_bytes": size, **options})]


async def said(slot: Slot, key: str) -> str:
    call = Call("1", key, (Message("user", "hi"),))
    events = [event async for bundle in slot.generate(key, [call]) for event in bundle]
    assert isinstance(events[-1], Done)
    return events[-1].answer.text


async def test_an_engine_that_slept_is_woken_and_not_started() -> None:
    slot = Slot(budget=100)
    assert not (await slot.bring("a", spec("a"))).woken
    await slot.bring("b", spec("b"), sleep=["a"])
    assert await slot.bytes() == {"awake": 60, "asleep": 60}
    assert (await slot.bring("a", spec("a"), sleep=["b"])).woken
    assert len(Sleeper.made) == 2
    assert await said(slot, "a") == "one two"


@pytest.mark.parametrize("fault", ["wake", "words"])
async def test_a_wake_that_fails_or_changes_the_words_is_undone_by_a_cold_start(fault: str) -> None:
    slot = Slot(budget=100)
    await slot.bring("a", spec("a", fault=fault))
    await slot.bring("b", spec("b"), sleep=["a"])
    brought = await slot.bring("a", spec("a", fault=fault), sleep=["b"])
    assert not brought.woken
    assert len(Sleeper.made) == 3
    assert await said(slot, "a") == "one two"


async def test_an_engine_that_cannot_sleep_is_ended_and_named() -> None:
    slot = Slot(budget=100)
    await slot.bring("a", spec("a", sleepless=True))
    assert (await slot.bring("b", spec("b"), sleep=["a"])).stopped == ("a",)
    assert await slot.bytes() == {"awake": 60, "asleep": 0}


async def test_bytes_that_are_not_free_are_refused_and_nothing_is_started() -> None:
    slot = Slot(budget=100)
    await slot.bring("a", spec("a"))
    with pytest.raises(EngineError, match=r"'b' needs 0\.0 GB"):
        await slot.bring("b", spec("b"))
    assert len(Sleeper.made) == 1
    assert await said(slot, "a") == "one two"


async def test_an_engine_that_cannot_start_takes_nothing_and_the_slot_goes_on() -> None:
    slot = Slot(budget=100)
    await slot.bring("a", spec("a"))
    with pytest.raises(EngineError, match="it cannot start"):
        await slot.bring("b", spec("b", broken=True), sleep=["a"])
    assert await slot.bytes() == {"awake": 0, "asleep": 60}
    assert (await slot.bring("a", spec("a"))).woken


async def test_other_specs_start_the_engine_anew() -> None:
    slot = Slot(budget=100)
    await slot.bring("a", spec("a"))
    assert not (await slot.bring("a", spec("a", size=70))).woken
    assert await slot.bytes() == {"awake": 70, "asleep": 0}


@pytest.mark.parametrize("config", ["{}", "[]", "{", '{"dtype": ["bfloat16"]}', '{"torch_dtype": "float32"}'])
def test_the_files_of_weights_are_counted_and_read_ahead(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(b"0" * 5000)
    expert = ExpertSpec("a", str(tmp_path), "vllm", dtype="float32", options={"kv_cache_gb": 1})
    assert weight_bytes(expert) == read_ahead([expert]) == 5000
    assert engine_bytes([expert]) == 5000 + (1 << 30)


@pytest.mark.parametrize(("avx512", "dtype", "kind", "bytes"), [
    (True, None, "bfloat16", 5000), (True, "float32", "float32", 10_000),
    (False, None, "float32", 10_000), (False, "bfloat16", "bfloat16", 5000),
])  # fmt: skip
def test_vllm_on_a_processor_computes_in_what_it_multiplies_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avx512: bool, dtype: str | None, kind: str, bytes: int
) -> None:
    monkeypatch.setattr(memory, "_multiplies_bfloat16", lambda: avx512)
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    (tmp_path / "model.safetensors").write_bytes(b"0" * 5000)
    expert = ExpertSpec("a", str(tmp_path), "vllm", dtype=dtype)
    assert (number_type(expert), weight_bytes(expert)) == (kind, bytes)
    assert settings_of([expert], tmp_path)["dtype"] == kind
    assert number_type(ExpertSpec("b", "m", "vllm", dtype=dtype, gpus=1)) == (dtype or "bfloat16")


def test_bytes_of_weights_that_are_not_here_come_from_the_number_of_parameters() -> None:
    assert weight_bytes(ExpertSpec("a", "owner/model", "vllm", gpus=1, size_b=8.0)) == 16_000_000_000
    assert weight_bytes(ExpertSpec("a", "owner/model", "vllm", size_b=8.0, quantization="awq")) == 4_800_000_000
    assert weight_bytes(ExpertSpec("a", "owner/model", "vllm")) is None
