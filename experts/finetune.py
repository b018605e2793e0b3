"""Train a LoRA specialist of a small base model on questions with known answers, on a CPU or a GPU."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an adapter is trained.

    Attributes:
        rank: Rank of each pair of LoRA matrices.
        steps: Optimiser steps.
        batch: Questions a step.
        learning_rate: Peak of the cosine schedule, after a warm-up over a twentieth of the steps.
        seed: Seed of the matrices and of the order of the questions.
    """

    rank: int = 2
    steps: int = 400
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0


def _encode(tokenizer: Any, system: str | None, query: str, answer: str) -> tuple[list[int], int]:
    """Write one question and its answer as tokens, and tell where the answer begins."""
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": query}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tail = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return head + tail, len(head)


def _batches(lengths: Sequence[int], size: int, rng: random.Random) -> list[list[int]]:
    """Cut one pass over the questions into batches of similar length, in random order, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], rng.random()))
    cut = [order[at : at + size] for at in range(0, len(order), size)]
    rng.shuffle(cut)
    return cut


def fit_adapter(
    base: Path,
    examples: Sequence[tuple[str, str]],
    folder: Path,
    *,
    system: str | None = None,
    recipe: Recipe | None = None,
    command: str = "",
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, Any]:
    """Fine-tune a LoRA adapter so that the base answers each question with its answer.

    Args:
        base: Folder of the base model's checkpoint.
        examples: Pairs of question and answer.
        folder: Where the adapter goes, as bfloat16 safetensors that peft and vLLM load.
        system: The system message under which the specialist will work.
        recipe: Rank, steps and rates.
        command: The command that trains it, to stand in the report beside the weights.
        on_step: Called after every step with its number and its loss.

    Returns:
        What was done: the recipe, the minutes, the number of weights, the mean loss of each twentieth of the steps.

    Source:
        Hu et al. 2021, LoRA, arXiv:2106.09685.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = recipe or Recipe()
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(base)
    able = torch.cpu.get_capabilities()
    native = device == "cuda" or able.get("avx512_bf16") or able.get("amx_bf16")  # without, a step in bfloat16 takes ten times as long
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if native else torch.float32)
    model.to(device)
    lora = LoraConfig(r=recipe.rank, lora_alpha=8 * recipe.rank, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    decoder, head = model.base_model.model.model, model.base_model.model.lm_head
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0, betas=(0.9, 0.98))
    warm_up = max(1, recipe.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, (s + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, s / recipe.steps)))
    )
    rows = [_encode(tokenizer, system, query, answer) for query, answer in examples]
    losses: list[float] = []
    queue: list[list[int]] = []
    start = time.monotonic()
    for step in range(recipe.steps):
        queue = queue or _batches([len(ids) for ids, _ in rows], recipe.batch, rng)
        batch = [rows[i] for i in queue.pop()]
        width = max(len(ids) for ids, _ in batch)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        ids = torch.tensor([r + [pad] * (width - len(r)) for r, _ in batch], device=device)
        mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r, _ in batch], device=device)
        # the loss counts the answers only, and the wide output layer runs only where it is needed
        where = torch.tensor([[begin - 1 <= at < len(r) - 1 for at in range(width)] for r, begin in batch], device=device)
        hidden = decoder(input_ids=ids, attention_mask=mask).last_hidden_state[where]
        loss = torch.nn.functional.cross_entropy(head(hidden).float(), ids.roll(-1, dims=1)[where])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        on_step(step + 1, losses[-1])
    minutes = (time.monotonic() - start) / 60
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": None, "target_modules": sorted(TARGETS)}  # no path of this machine, no chance order
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(folder / "adapter_model.safetensors").items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_model.safetensors").chmod(0o644)
    cut = max(1, recipe.steps // 20)
    report = {
        "command": command,
        "rank": recipe.rank,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "learning_rate": recipe.learning_rate,
        "seed": recipe.seed,
        "examples": len(examples),
        "minutes": round(minutes, 1),
        "weights": sum(p.numel() for p in weights),
        "loss": [round(sum(part) / len(part), 4) for part in (losses[at : at + cut] for at in range(0, len(losses), cut))],
    }
    (folder / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report
