"""What a config's experts are to engines and to policies."""

from __future__ import annotations

from datetime import date

from experts import ExpertSpec
from experts.abilities import abilities
from experts.hardware import gpu_count, local_engine
from router.cards import Card
from serving.config.mixture import MixtureConfig


def cards_of(config: MixtureConfig, today: date) -> dict[str, Card]:
    """What policies know of each expert, but for the price of a request's call."""
    return {
        expert.name: Card(
            size_b=expert.size_b,
            latency_s=expert.latency_s,
            age_days=float(max(0, (today - expert.released).days)) if expert.released else 0.0,
            role=expert.role,
            match=tuple(expert.match),
        )
        for expert in config.experts
    }


def expert_specs(config: MixtureConfig) -> list[ExpertSpec]:
    """Turn a config's experts into what engines take; adapters take their base's model and engine."""
    bases = {expert.name: expert for expert in config.experts}
    specs = []
    for expert in config.experts:
        base = bases[expert.base] if expert.base else expert
        engine = local_engine() if base.engine == "auto" else base.engine
        gpus = base.gpus if base.gpus is not None else min(1, gpu_count()) if engine in ("vllm", "transformers") else 0
        specs.append(
            ExpertSpec(
                name=expert.name,
                model=str(base.model),
                engine=engine,
                adapter=expert.adapter,
                revision=base.revision,
                system=expert.system if expert.system is not None else base.system,
                chat_template=expert.chat_template or base.chat_template,
                max_model_len=base.max_model_len,
                max_tokens=expert.max_tokens if "max_tokens" in expert.model_fields_set else base.max_tokens,
                dtype=base.dtype,
                quantization=base.quantization,
                gpus=gpus,
                trust_remote_code=base.trust_remote_code,
                price=(expert.price.input, expert.price.output),
                api_base=expert.api_base,
                api_key_env=expert.api_key_env,
                timeout_s=expert.timeout_s,
                size_b=base.size_b,
                options=expert.options,
                can=None if (own := expert.can if expert.can is not None else base.can) is None else tuple(own),
            )
        )
        abilities(specs[-1])  # says more than the engine offers: told before anything starts
    return specs
