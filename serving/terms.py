"""Families of models whose terms ask for more than to keep a notice, as far as we know them. Read the terms: these lines are no advice."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms that some models come under.

    Attributes:
        name: What they are called.
        models: Regular expression of such models' ids, in small letters with hyphens.
        licences: Regular expression of what such licences are called, likewise.
        says: What to mind, in one sentence of ours.
        url: Where they stand.
    """

    name: str
    models: str
    licences: str
    says: str
    url: str


def _llama(version: str, says: str) -> Terms:
    """Meta's terms for one version of Llama; the next digit would be another version."""
    number = re.escape(version)
    return Terms(
        f"Llama {version} community licence",
        rf"(?<!tiny)(?<!open)(?<!open-)(code)?llama-?{number}(?!\.?\d|b\b)" + ("|code-?llama" if version == "2" else ""),
        rf"llama-?{number}(?!\.?\d)",
        says,
        f"https://www.llama.com/llama{version.replace('.', '_')}/license/",
    )


_SHOW = "products must say 'Built with Llama' and keep Meta's use policy, and above 700 million users a month Meta must be asked"
_NO_TRAINING = "Meta's use policy binds you, other models must not be trained on its answers, and above 700 million users a month ask Meta"

TERMS = (
    Terms(
        "Gemma terms of use",
        r"(?<!med)(?<!tx)gemma(?!-?4)",  # the fourth is under Apache-2.0
        r"^gemma$|gemma-terms",
        "Google's list of prohibited uses binds you and whoever you serve or hand it on to, and you must pass these terms on",
        "https://ai.google.dev/gemma/terms",
    ),
    Terms(
        "Health AI Developer Foundations terms",
        r"(med|tx)gemma",
        r"health-ai-developer",
        "it may not serve patients without the approvals that medical products need, and Google's list of prohibited uses binds you",
        "https://developers.google.com/health-ai-developer-foundations/terms",
    ),
    _llama("2", _NO_TRAINING),
    _llama("3", f"{_SHOW}; other models must not be trained on its answers"),
    _llama("3.1", _SHOW),
    _llama("3.2", f"{_SHOW}; whoever is based in the European Union has no licence to its models that see pictures"),
    _llama("3.3", _SHOW),
    _llama("4", f"{_SHOW}; whoever is based in the European Union has no licence to its models that see pictures"),
    Terms(
        "Qwen research licence",
        r"qwen2\.5-((coder|vl|omni)-)?3b|qwen-1-8b|qwen1\.5-(0\.5|1\.8)b",
        r"qwen-research|qianwen-research",
        "it is for research and trial only: to earn money with it, Alibaba Cloud must be asked",
        "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
    ),
    Terms(
        "Qwen licence",
        r"qwen2(\.5)?-((vl|math)-)?72b|qwen1\.5-|codeqwen|qwen-(7|14|72)b|qwen-vl",
        r"^qwen(-licen[cs]e.*)?$|tongyi|qianwen",
        "above 100 million users a month Alibaba Cloud must be asked, and models made with its answers must say so",
        "https://huggingface.co/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE",
    ),
    Terms(
        "DeepSeek model licence",
        r"deepseek-(llm|coder|math|moe|vl|v2|v3(?!-0324|\.))",  # later ones are under MIT
        r"deepseek",
        "its list of forbidden uses, military ones among them, binds you and must be part of your own terms",
        "https://github.com/deepseek-ai/DeepSeek-LLM/blob/main/LICENSE-MODEL",
    ),
    Terms(
        "Mistral AI research licence",
        r"mistral-large-(instruct-)?24|pixtral-large|ministral-\d+b-(instruct-)?2410|mistral-small-(instruct-)?2409",
        r"\bmrl\b|mistral.*research",
        "it is for research only, its answers too: for anything else Mistral must be asked",
        "https://mistral.ai/licenses/MRL-0.1.md",
    ),
    Terms(
        "Mistral AI non-production licence",
        r"codestral-22b",
        r"\bmnpl\b|mistral.*non-?production",
        "it is for tests and research only: to run it for users, Mistral must be asked",
        "https://mistral.ai/licenses/MNPL-0.1.md",
    ),
    Terms(
        "Creative Commons, non-commercial",
        r"c4ai-command|command-(r|a)\b|c4ai-aya|aya-(23|expanse|vision)",
        r"cc-by-nc|attribution-noncommercial",
        "nothing commercial may be done with it, and its author must be named",
        "https://creativecommons.org/licenses/by-nc/4.0/",
    ),
    Terms(
        "TII Falcon licence",
        r"falcon-?(180b|2-|11b|mamba|3-|h1|e-)",  # the first two are under Apache-2.0
        r"falcon",
        "TII's use policy binds you, what is made with it must say so, and to host the 180B for others TII must be asked",
        "https://falconllm.tii.ae/falcon-terms-and-conditions.html",
    ),
    Terms(
        "OpenRAIL",
        r"starcoder|(?<!\w)bloomz?-\d|(?<!\w)bloomz?$",
        r"open-?rail|bigscience.*rail",
        "its list of forbidden uses binds you, and must bind whoever you serve or hand it on to",
        "https://www.licenses.ai/",
    ),
    Terms(
        "Stability AI community licence",
        r"stablelm-(2|zephyr)|stable-code",
        r"stability-?ai|stable.*community",
        "from a million US dollars of revenue a year Stability AI must be asked",
        "https://stability.ai/community-license-agreement",
    ),
    Terms(
        "NVIDIA open model licence",
        r"nemotron",
        r"nvidia-open-model",
        "it ends where its guardrails are taken out without others in their place, or NVIDIA is sued over the model",
        "https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license/",
    ),
    Terms(
        "EXAONE licence",
        r"exaone",
        r"exaone",
        "it is for research only, and no other model may be trained on its answers without LG's word",
        "https://huggingface.co/LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct/blob/main/LICENSE",
    ),
    Terms(
        "Tencent Hunyuan community licence",
        r"hunyuan",
        r"hunyuan|tencent",
        "it gives no rights in the European Union, Britain and South Korea, and above 100 million users a month Tencent must be asked",
        "https://huggingface.co/tencent/Hunyuan-MT-7B/blob/main/License.txt",
    ),
)


def terms_of(model: str, licence: str = "") -> tuple[Terms, str] | None:
    """The special terms that a model comes under, and what told: `licence`, or `model` for its id; None where we know of none.

    Example:
        >>> terms_of("meta-llama/Llama-3.1-8B-Instruct")[0].name, terms_of("nobody/m", "cc-by-nc-4.0")[1], terms_of("google/gemma-4-31b")
        ('Llama 3.1 community licence', 'licence', None)
    """
    for told, text in (("licence", licence), ("model", model)):
        plain = re.sub(r"[\s_]+", "-", text.strip().lower())
        for terms in TERMS:
            if plain and re.search(terms.licences if told == "licence" else terms.models, plain):
                return terms, told
    return None
