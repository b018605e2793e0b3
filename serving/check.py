"""The arithmetic of a mixture before anything starts: whose bytes go where, and whether they fit. Downloads and converts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any

from data.records import CounterpointError
from experts.base import EngineError, ExpertSpec
from experts.hardware import gpu_count
from experts.memory import RESIDUE, asleep_bytes, engine_parts, weight_files
from experts.models import PACKAGED, installed, resolve
from experts.pool import PoolSettings
from serving.config import MixtureConfig, PoolConfig, expert_specs
from serving.licences import Warned, licences_of, warnings_of
from serving.pipeline import Pipeline

HERE = "here"
ON_THE_HUB = "on the hub, not downloaded"
NOT_INSTALLED = "not installed"


class CheckError(CounterpointError):
    """A mixture that cannot be checked, because what it names cannot exist."""


@dataclass(frozen=True, slots=True)
class Member:
    """One expert, as it is listed.

    Attributes:
        name: Its name.
        engine: Kind of engine.
        model: Its model.
        adapter: Name of its adapter's folder, or None.
        licence: Licence of the weights, `unknown` where neither the config nor a folder tells; empty where there are none.
        licence_from: What told it: `config`, `README.md`, a licence's file, `package`, another expert; or None.
    """

    name: str
    engine: str
    model: str
    adapter: str | None
    licence: str
    licence_from: str | None


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine that takes turns in the slots, and its bytes on all its devices together; None is not known.

    Attributes:
        experts: Those that share it.
        model: Their model.
        gpus: GPUs that it takes.
        where: Whether its weights are here, packaged, or on the hub.
        weights: Bytes of the model: of its files where they are here, else by its number of parameters.
        adapters: Bytes of the adapters.
        cache: Bytes of the KV cache.
        overhead: Bytes that vLLM takes besides.
        awake: All of these.
        asleep: Bytes of host memory while it sleeps; None also where it cannot sleep.
        residue: Bytes that it keeps on its GPUs while it sleeps, by assumption.
    """

    experts: tuple[str, ...]
    model: str
    gpus: int
    where: str
    weights: int | None
    adapters: int
    cache: int | None
    overhead: int
    awake: int | None
    asleep: int | None
    residue: int

    @property
    def name(self) -> str:
        """The expert that it is called by."""
        return self.experts[0]


@dataclass(frozen=True, slots=True)
class SlotReport:
    """What each slot has, and what it needs.

    Attributes:
        slots: Slots of the mixture.
        max_slots: Slots that it may grow to.
        gpus: GPUs of each.
        awake_budget: Bytes for what is awake; None is one engine at a time.
        largest: The engine that takes most while awake, or None where no engine's bytes are known.
        largest_bytes: What it takes.
        fit: How many engines of that size are awake together.
        asleep_budget: Bytes of host memory for what sleeps.
        may_sleep: Most engines that sleep at once, if the budget allows.
        may_sleep_bytes: Most host memory that they take.
        sleeping: Most engines that sleep at once within the budget.
        residue: Most bytes that these keep on the GPUs.
        gpu_bytes: Bytes that the slot's GPUs need in all: what is awake and the residue.
    """

    slots: int
    max_slots: int
    gpus: int
    awake_budget: int | None
    largest: str | None
    largest_bytes: int | None
    fit: int | None
    asleep_budget: int
    may_sleep: int
    may_sleep_bytes: int
    sleeping: int
    residue: int
    gpu_bytes: int | None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `counterpoint check` prints.

    Attributes:
        mixture: The mixture's name.
        members: Its experts.
        engines: The engines that take turns in the slots.
        slot: What a slot has and needs; None where no expert needs one.
        assumed: What was counted without being known.
        warnings: What works worse than it could.
        terms: Special terms of the weights.
        errors: Why it cannot run.
    """

    mixture: str
    members: tuple[Member, ...]
    engines: tuple[EngineReport, ...]
    slot: SlotReport | None
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]
    terms: tuple[Warned, ...]
    errors: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """The report as JSON, bytes as whole numbers."""
        return {"ok": not self.errors, **asdict(self)}


def check(config: MixtureConfig) -> CheckReport:
    """Add up the bytes of a mixture.

    Raises:
        CounterpointError: The router does not fit the experts, or an expert names what cannot exist.
    """
    Pipeline.of(config, PoolSettings())  # the router and the experts fit; the budgets are looked at below
    specs = expert_specs(config)
    licences = licences_of(config, specs)
    members = tuple(
        Member(s.name, s.engine, s.model, s.adapter and Path(s.adapter).name, licences[s.name].name, licences[s.name].source) for s in specs
    )
    terms = tuple(warnings_of(specs, licences))
    groups: dict[str, list[ExpertSpec]] = {}
    for spec in specs:
        if spec.needs_slot:
            groups.setdefault(spec.engine_key, []).append(spec)
    engines = tuple(_engine(group, config.pool) for group in groups.values())
    slot = _slot(engines, config.pool) if engines else None
    errors = [*_do_not_fit(engines, config.pool)]
    warnings = [*_unknown(engines, config.pool), *_not_installed(engines)]
    if slot is not None:
        warnings += _of_slot(slot, engines, config.pool)
    return CheckReport(config.name, members, engines, slot, tuple(_assumed(config, specs, slot)), tuple(warnings), terms, tuple(errors))


def gb(amount: int | None) -> str:
    """Bytes in gigabytes of 10^9 bytes, as budgets are given.

    Example:
        >>> gb(21_854_967_296), gb(None)
        ('21.85', 'unknown')
    """
    return "unknown" if amount is None else f"{amount / 1e9:.2f}"


def _up(amount: int) -> str:
    """A budget in gigabytes that surely holds so many bytes."""
    return f"{ceil(amount / 1e8) / 10:.1f}"


def _engine(group: Sequence[ExpertSpec], pool: PoolConfig) -> EngineReport:
    base = next((spec for spec in group if spec.adapter is None), group[0])
    parts, sleeps = engine_parts(group), _sleeps(base) and pool.asleep_gb > 0
    return EngineReport(
        experts=tuple(spec.name for spec in group),
        model=base.model,
        gpus=base.gpus,
        where=_where(base),
        weights=parts.weights,
        adapters=parts.adapters,
        cache=parts.cache,
        overhead=parts.overhead,
        awake=parts.total,
        asleep=asleep_bytes(group, pool.sleep_level) if sleeps else None,
        residue=base.gpus * RESIDUE if sleeps else 0,
    )


def _sleeps(base: ExpertSpec) -> bool:
    return base.engine == "scripted" or (base.engine == "vllm" and base.gpus > 0)


def _where(base: ExpertSpec) -> str:
    """Tell where the weights are, without fetching them.

    Raises:
        CheckError: They are nowhere.
    """
    if base.engine == "scripted":
        return "no weights"
    name = base.model.removeprefix("packaged:")
    if name != base.model and name not in PACKAGED:
        raise CheckError(f"expert {base.name!r}: no packaged model is called {name!r}; there are {', '.join(PACKAGED)}")
    try:
        folder = resolve(base.model, base.revision, fetch=False)
    except EngineError as error:
        if name != base.model:
            return "packaged, converted when first used" if installed(name) else f"packaged, {NOT_INSTALLED} here"
        if "downloaded" in str(error):
            return ON_THE_HUB
        raise
    if name != base.model:
        return "packaged, converted already"
    if weight_files(base):
        return HERE
    return f"no whole set of *.safetensors in {folder}" if Path(base.model).is_dir() else ON_THE_HUB


def _slot(engines: Sequence[EngineReport], pool: PoolConfig) -> SlotReport:
    settings = pool.build()
    known = [engine for engine in engines if engine.awake is not None]
    largest = max(known, key=lambda engine: engine.awake or 0, default=None)
    size = None if largest is None else largest.awake
    sleepers = sorted(engine.asleep for engine in engines if engine.asleep is not None)
    staying = sleepers[:1] if len(sleepers) == len(engines) else []  # one at least is awake; with the smallest, most bytes sleep
    may = len(sleepers) - len(staying)
    sleeping = min(may, sum(used <= settings.asleep_bytes for used in accumulate(sleepers)))
    residue = sum(sorted((engine.residue for engine in engines), reverse=True)[:sleeping])
    held = settings.awake_bytes if settings.awake_bytes is not None else size
    return SlotReport(
        slots=pool.slots,
        max_slots=pool.max_slots or pool.slots,
        gpus=max(engine.gpus for engine in engines),
        awake_budget=settings.awake_bytes,
        largest=None if largest is None else largest.name,
        largest_bytes=size,
        fit=None if not size or len(known) < len(engines) else 1 if settings.awake_bytes is None else settings.awake_bytes // size,
        asleep_budget=settings.asleep_bytes,
        may_sleep=may,
        may_sleep_bytes=sum(sleepers[len(staying) :]),
        sleeping=sleeping,
        residue=residue,
        gpu_bytes=None if held is None or not any(engine.gpus for engine in engines) else held + residue,
    )


def _do_not_fit(engines: Sequence[EngineReport], pool: PoolConfig) -> list[str]:
    """Why the pool would refuse an engine."""
    settings, errors = pool.build(), []
    budgets = [name for name, given in (("awake_gb", pool.awake_gb), ("asleep_gb", pool.asleep_gb)) if given]
    for engine in engines:
        if budgets and engine.cache is None:
            errors.append(
                f"{engine.name}: {' and '.join(budgets)} count bytes, and without kv_cache_gb vLLM takes what the GPU has left: "
                "give kv_cache_gb in its options"
            )
        elif settings.awake_bytes is not None and engine.awake is not None and engine.awake > settings.awake_bytes:
            errors.append(
                f"{engine.name}: wants {gb(engine.awake)} GB awake ({_sum(engine)}), and a slot has awake_gb {gb(settings.awake_bytes)}: "
                f"raise awake_gb to {_up(engine.awake)}, lower its kv_cache_gb, or quantise it"
            )
    return errors


def _sum(engine: EngineReport) -> str:
    parts = {"weights": engine.weights, "adapters": engine.adapters, "cache": engine.cache, "other": engine.overhead}
    return " + ".join(f"{name} {gb(amount)}" for name, amount in parts.items() if amount)


def _unknown(engines: Sequence[EngineReport], pool: PoolConfig) -> list[str]:
    """Engines whose bytes are not known, by name, and what that means."""
    warnings = []
    for engine in engines:
        if engine.weights is None:
            then = "; the slots have a budget, so it must be known where the mixture runs" if pool.awake_gb or pool.asleep_gb else ""
            warnings.append(f"{engine.name}: the bytes of {engine.model} are not known ({engine.where}): give its size_b{then}")
    return warnings


def _not_installed(engines: Sequence[EngineReport]) -> list[str]:
    return [
        f"{engine.name}: {engine.model} is not installed here: pip install {PACKAGED[engine.model.removeprefix('packaged:')].install}"
        for engine in engines
        if NOT_INSTALLED in engine.where
    ]


def _of_slot(slot: SlotReport, engines: Sequence[EngineReport], pool: PoolConfig) -> list[str]:
    warnings = []
    if slot.may_sleep_bytes > slot.asleep_budget:
        warnings.append(
            f"asleep_gb is {gb(slot.asleep_budget)}, and {slot.may_sleep} engines of {gb(slot.may_sleep_bytes)} GB may sleep at once: "
            f"those that do not fit are ended and start cold; raise asleep_gb to {_up(slot.may_sleep_bytes)} where the host has it"
        )
    if pool.asleep_gb and (cannot := [engine.name for engine in engines if engine.asleep is None and engine.weights is not None]):
        warnings.append(f"{', '.join(cannot)}: sleep needs vLLM on a GPU, so these are ended and start cold in spite of asleep_gb")
    if pool.replicas > slot.max_slots:
        warnings.append(f"replicas is {pool.replicas}, and slots {slot.max_slots}: each replica needs a slot")
    return warnings


def _assumed(config: MixtureConfig, specs: Sequence[ExpertSpec], slot: SlotReport | None) -> list[str]:
    """What was counted by this machine or by a constant of ours."""
    local = {spec.name: spec for spec in specs if spec.needs_slot and spec.adapter is None}
    open_gpus = [
        expert.name for expert in config.experts if expert.name in local and expert.gpus is None and local[expert.name].engine != "scripted"
    ]
    open_engine = [expert.name for expert in config.experts if expert.name in local and expert.engine == "auto"]
    assumed = []
    if open_engine:
        assumed.append(f"engine is left open for {', '.join(open_engine)}: counted as {local[open_engine[0]].engine}, as on this machine")
    if open_gpus:
        assumed.append(f"gpus is left open for {', '.join(open_gpus)}: counted for this machine, which has {gpu_count()}")
    if any(spec.gpus for spec in local.values()):
        assumed.append("1.50 GB beside weights and cache on each GPU of an engine that is awake: its CUDA context, activations and graphs")
        assumed.append("weights by size_b are what the number type takes; files that are here are counted as they are")
    if slot is not None and slot.residue:
        assumed.append(f"{gb(RESIDUE)} GB on each GPU of a sleeping vLLM engine, its CUDA context and graphs: not measured by us")
    return assumed


def report_lines(report: CheckReport) -> list[str]:
    """Say in lines what a check found; errors are left to the caller."""
    lines, wide = [], max(16, *(len(each.name) for each in report.members))
    for each in report.members:
        model = each.model + (f" + {each.adapter}" if each.adapter else "")
        lines.append(f"{each.name:<{wide}} {each.engine:<13} {model} ({_licence(each)})")
    if report.engines:
        wide = max(len("engine, GB"), *(len(engine.name) for engine in report.engines))
        lines += ["", f"{'engine, GB':<{wide}}  weights adapters   cache   other   awake  asleep  residue  model"]
        for engine in report.engines:
            amounts = (engine.weights, engine.adapters, engine.cache, engine.overhead, engine.awake)
            asleep = "no" if engine.asleep is None and not engine.residue else gb(engine.asleep)
            columns = " ".join(f"{gb(amount):>7}" for amount in amounts)
            lines.append(f"{engine.name:<{wide}}  {columns} {asleep:>7}  {gb(engine.residue):>7}  {engine.where}")
    if report.slot is not None:
        lines += ["", *_slot_lines(report.slot, len(report.engines))]
    lines += [f"assumed: {line}" for line in report.assumed]
    return lines + [f"warning: {line}" for line in (*report.warnings, *(each.line() for each in report.terms))]


def _licence(member: Member) -> str:
    """A member's licence in words."""
    if member.licence_from is None:
        return f"licence {member.licence}" if member.licence else "no weights"
    return member.licence if member.licence_from == "config" else f"{member.licence}, by {member.licence_from}"


def _slot_lines(slot: SlotReport, engines: int) -> list[str]:
    devices = f"{slot.gpus} GPU{'s' if slot.gpus > 1 else ''}" if slot.gpus else "a share of the CPU"
    count = f"{slot.slots}, up to {slot.max_slots}" if slot.max_slots > slot.slots else str(slot.slots)
    lines = [f"slots: {count}, each with {devices}, for {engines} engine{'s' if engines > 1 else ''}"]
    if slot.largest is not None:
        budget = "one engine at a time" if slot.awake_budget is None else f"budget {gb(slot.awake_budget)} GB"
        fit = "" if slot.awake_budget is None or slot.fit is None else f", {slot.fit} of that size together"
        lines.append(f"awake: {budget}, the largest is {slot.largest} with {gb(slot.largest_bytes)} GB{fit}")
    if slot.asleep_budget:
        lines.append(
            f"asleep: budget {gb(slot.asleep_budget)} GB of host memory for each slot, "
            f"{slot.may_sleep} engines may sleep at once and take {gb(slot.may_sleep_bytes)} GB"
        )
    if slot.gpu_bytes is not None:
        awake = gb(slot.gpu_bytes - slot.residue)
        residue = f" + {gb(slot.residue)} GB that sleeping engines keep" if slot.residue else ""
        lines.append(f"GPU: {awake} GB awake{residue} = {gb(slot.gpu_bytes)} GB on the GPUs of each slot")
    return lines
