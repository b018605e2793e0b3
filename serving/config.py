"""One YAML file per mixture, checked before anything starts."""

from __future__ import annotations

import difflib
import inspect
import re
from abc import ABC, abstractmethod
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from aggregator import Aggregator, defended, make_aggregator, settings_of
from aggregator.defences import defence_settings
from data.records import CounterpointError
from data.versions import Format
from experts import ENGINES, ExpertSpec
from experts.abilities import abilities
from experts.hardware import gpu_count, local_engine
from experts.pool import PoolSettings
from router.budget import Limits
from router.cards import Card
from router.policy import Cascade, CountingPolicy, EntropyGate, FixedK, Mass, Recruit, SelfSample
from router.preference import Preference
from serving.settings import fitting

ASSETS = Path(__file__).parent / "assets"
"""What `package:` paths start from: the demo's adapters, router, scores and mixture."""
EXPERT_SETTINGS = ("expert", "judge", "proposers", "divider")
"""Settings of aggregators that name experts."""
PATH_SETTINGS = ("path", "memory", "forbidden")
"""Settings of aggregators and defences that are paths."""


class ConfigError(CounterpointError):
    """A config that cannot be used; the text says where, what was wanted and what came."""


CONFIG: Format[dict[str, Any]] = Format("config", ConfigError)
"""Versions of a mixture's YAML, as the mapping that it holds."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Price(_Config):
    """US dollars per million tokens."""

    input: NonNegativeFloat = 0.0
    output: NonNegativeFloat = 0.0


class ExpertConfig(_Config):
    """One expert: a model of its own, or an adapter on another expert's."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """What routes, traces and callers call it."""
    model: str | None = None
    """Folder, hub id, `packaged:NAME`, or a remote model's id."""
    base: str | None = None
    """Name of the expert whose model an adapter sits on."""
    adapter: str | None = None
    """Folder of a LoRA adapter."""
    engine: str = "auto"
    """Kind of engine; `auto` is vLLM where it is installed, else transformers."""
    description: str = ""
    """What it is good at, in a few words."""
    role: Literal["routed", "shared", "constant"] = "routed"
    """`routed` competes by its score, `shared` is asked for everything, `constant` answers alone what `match` describes."""
    match: list[str] = []
    """Regular expressions of whole questions that a constant expert answers, such as greetings."""
    size_b: NonNegativeFloat = 0.0
    """Parameters in billions, for objectives and budgets."""
    latency_s: NonNegativeFloat = 0.0
    """Seconds that its answers are known to take, for objectives and budgets."""
    released: date | None = None
    """Day of its release, for objectives."""
    licence: str = ""
    """Licence of the weights."""
    revision: str | None = None
    """Revision on the hub."""
    gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs of one replica; None is one where the machine has one, else none."""
    max_model_len: PositiveInt = 2048
    """Tokens that prompt and answer may take together."""
    max_tokens: PositiveInt = 256
    """Limit of an answer where the caller gives none."""
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """Number type of the weights; None is the engine's own choice."""
    quantization: str | None = None
    """vLLM's name of a quantisation."""
    chat_template: str | None = None
    """Jinja text in place of the model's own template."""
    system: str | None = None
    """System message for conversations that bring none."""
    trust_remote_code: bool = False
    """Whether Python that comes with the weights may run."""
    price: Price = Price()
    """US dollars per million tokens."""
    api_base: str | None = None
    """URL of a remote server, up to /v1."""
    api_key_env: str | None = None
    """Environment variable that holds the key; the key itself never stands in a config."""
    timeout_s: PositiveFloat = 120.0
    """Seconds that a remote expert may take for one answer."""
    options: dict[str, Any] = {}
    """Settings of one engine only."""
    can: list[Literal["tools", "json_schema", "logprobs", "penalties"]] | None = None
    """What it can beside writing text; null is all that its engine offers."""

    @model_validator(mode="after")
    def _whole(self) -> ExpertConfig:
        if (self.model is None) == (self.base is None):
            raise ValueError("wanted either model, or base with adapter")
        if (self.base is None) != (self.adapter is None):
            raise ValueError("base and adapter come together: base names the expert whose model the adapter sits on")
        if (self.role == "constant") != bool(self.match):
            raise ValueError("a constant expert and its match come together: match says which questions it answers")
        for pattern in self.match:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"match: {pattern!r} is no regular expression: {error}") from error
        if self.engine != "auto" and self.engine not in ENGINES:
            raise ValueError(f"no engine is called {self.engine!r}; there are auto, {', '.join(ENGINES)}")
        return self


class LimitsConfig(_Config):
    """Hard budgets of one request."""

    usd: PositiveFloat | None = None
    """US dollars, all its experts together, at the most that their calls can cost."""
    latency_s: PositiveFloat | None = None
    """Seconds that each of its experts is known to take."""
    size_b: PositiveFloat | None = None
    """Billions of parameters, all its experts together."""

    def build(self) -> Limits:
        """Make the limits."""
        return Limits(**{name: amount for name, amount in self.model_dump().items() if amount is not None})


class PolicyConfig(_Config):
    """How scores become a choice."""

    kind: Literal["top-k", "mass", "entropy", "cascade", "self", "recruit"] = "top-k"
    k: Annotated[int, Field(ge=1, le=32)] = 3
    """Experts asked (top-k, entropy), samples (self, recruit)."""
    null_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    """top-k: experts that score below this are not asked, except for the best."""
    mass: Annotated[float, Field(gt=0, le=1)] = 0.9
    k_min: Annotated[int, Field(ge=1, le=32)] = 1
    k_max: Annotated[int, Field(ge=1, le=32)] = 3
    """mass, cascade: most experts."""
    gate: Annotated[float, Field(ge=0, le=1)] = 0.9
    """entropy: above it k experts are asked, below it one."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    """cascade: predicted probability that is good enough."""
    first: Annotated[int, Field(ge=1, le=32)] = 1
    """cascade: experts asked at once."""
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.6
    """cascade: share of the weight that the leading answer needs."""
    objective: dict[Literal["price", "size", "latency", "age"], NonNegativeFloat] = {}
    """Weights against quality; a term is the expert's share of the largest in the pool."""
    sticky: NonNegativeFloat = 0.0
    """Predicted gain below which a conversation stays with its experts."""
    resident_within: NonNegativeFloat = 0.0
    """Predicted loss accepted for an expert that is loaded; routes then depend on what others asked."""
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _ordered(self) -> PolicyConfig:
        if self.k_min > self.k_max:
            raise ValueError(f"k_min must not be above k_max, not {self.k_min} above {self.k_max}")
        return self

    def build(self) -> CountingPolicy:
        """Make the policy."""
        preference = Preference({str(term): weight for term, weight in self.objective.items()}, self.sticky, self.resident_within)
        shared: dict[str, Any] = {"preference": preference, "limits": self.limits.build()}
        match self.kind:
            case "top-k":
                return FixedK(self.k, self.null_score, **shared)
            case "mass":
                return Mass(self.mass, self.k_min, self.k_max, **shared)
            case "entropy":
                return EntropyGate(self.gate, self.k, **shared)
            case "cascade":
                return Cascade(self.floor, self.first, self.agreement, self.k_max, **shared)
            case "self":
                return SelfSample(self.k, **shared)
            case "recruit":
                return Recruit(self.k, **shared)


class TokensConfig(_Config):
    """Limits of an expert's answer by how hard the router thinks the question, where the caller gives none."""

    easy: PositiveInt
    """Tokens where the best expert is sure to be right."""
    hard: PositiveInt
    """Tokens where it is sure to be wrong; what lies between is in proportion."""


class RouterConfig(_Config):
    """Where the fitted router is, and how its scores become a choice."""

    path: str
    policy: PolicyConfig = PolicyConfig()
    max_tokens: TokensConfig | None = None
    """Limits of answers by difficulty, where the caller gives none; null is each expert's own."""


class _Kind(BaseModel, ABC):
    """A kind of something with settings of its own beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    def settings(self) -> dict[str, Any]:
        """The kind's own settings.

        Raises:
            ValueError: One is unknown, or missing, or does not fit.
        """
        try:
            owner, known = self._known_settings()
            made = fitting(owner, {name: entry.annotation for name, entry in known.items()}, self.model_extra or {})
        except CounterpointError as error:
            raise ValueError(str(error)) from error
        if missing := [name for name, entry in known.items() if entry.default is entry.empty and name not in made]:
            raise ValueError(f"{owner} needs {', '.join(missing)}")
        return made

    @abstractmethod
    def _known_settings(self) -> tuple[str, dict[str, inspect.Parameter]]:
        """What it is called in errors, and the settings that it takes."""

    def absolute(self, folder: Path) -> Self:
        """The same with paths from a folder."""
        paths = {name: value for name, value in (self.model_extra or {}).items() if name in PATH_SETTINGS and isinstance(value, str)}
        return type(self)(**self.model_dump() | {name: str(resolve_path(value, folder)) for name, value in paths.items()})


class DefenceConfig(_Kind):
    """What stands around an aggregator in case an expert lies."""

    @model_validator(mode="after")
    def _known(self) -> DefenceConfig:
        self.settings()
        return self

    def _known_settings(self) -> tuple[str, dict[str, inspect.Parameter]]:
        return f"the defence {self.kind!r}", defence_settings(self.kind)


class AggregatorConfig(_Kind):
    """Which aggregator makes one answer of several; its own settings stand beside its kind."""

    kind: str = "weighted"
    primary_first: bool = False
    """Whether the primary's words are streamed as they come, and corrected where the combined answer differs."""
    defence: DefenceConfig | None = None
    """What stands around it in case an expert lies."""

    @model_validator(mode="after")
    def _known(self) -> AggregatorConfig:
        self.settings()
        return self

    def _known_settings(self) -> tuple[str, dict[str, inspect.Parameter]]:
        return f"the aggregator {self.kind!r}", settings_of(self.kind)

    def build(self) -> Aggregator:
        """Make the aggregator.

        Raises:
            AggregatorError: A setting is out of its range, or an artefact cannot be read.
        """
        made = make_aggregator(self.kind, **self.settings())
        return made if self.defence is None else defended(made, self.defence.kind, **self.defence.settings())

    def absolute(self, folder: Path) -> Self:
        """The same with paths from a folder, the defence's too."""
        made = super().absolute(folder)
        return made if made.defence is None else made.model_copy(update={"defence": made.defence.absolute(folder)})

    @property
    def experts(self) -> list[str]:
        """Experts that its settings name."""
        named = [self.settings().get(name) for name in EXPERT_SETTINGS]
        return [name for entry in named for name in ([entry] if isinstance(entry, str) else entry or ())]


class PoolConfig(_Config):
    """How local experts share the machine."""

    slots: PositiveInt = 1
    """Slots, each with GPUs of its own or a share of the CPU."""
    max_slots: PositiveInt | None = None
    """Slots to grow to while calls wait long, where the cluster can grow; null is no more than slots."""
    batch: PositiveInt = 64
    """Calls that an engine runs at once."""
    max_wait_s: PositiveFloat | None = None
    """An accepted call starts within so many seconds, others are refused with 429; null accepts all."""
    awake_gb: PositiveFloat | None = None
    """Gigabytes of a slot for engines that are awake; null is one engine at a time."""
    asleep_gb: NonNegativeFloat = 0.0
    """Gigabytes of host memory for engines that sleep in a slot; 0 ends engines instead, as on the CPU."""
    sleep_level: Literal[1, 2] = 1
    """vLLM's level of sleep: 1 keeps the weights in host memory, 2 on disk only."""
    prefetch: bool = True
    """Whether the next engine's weights are read while the current one decodes."""
    replicas: PositiveInt = 1
    """Slots that may hold the same engine at once."""
    quantum: PositiveFloat = 16.0
    """Length of a visit, in swap times, after which others that wait come first."""
    rule: Literal["counterpoint", "llama-swap", "lru", "fifo"] = "counterpoint"
    """How a slot chooses its next engine."""
    placement: bool = False
    """Whether engines are given slots of their own by what was asked lately, anew every minute."""

    @model_validator(mode="after")
    def _growing(self) -> PoolConfig:
        if self.max_slots is not None and self.max_slots < self.slots:
            raise ValueError(f"max_slots must not be below slots, not {self.max_slots} below {self.slots}")
        return self

    def build(self) -> PoolSettings:
        """Make the pool's settings."""
        return PoolSettings(
            slots=self.slots,
            max_slots=self.max_slots,
            batch=self.batch,
            max_wait_s=self.max_wait_s,
            awake_bytes=None if self.awake_gb is None else int(self.awake_gb * 1e9),
            asleep_bytes=int(self.asleep_gb * 1e9),
            sleep_level=self.sleep_level,
            prefetch=self.prefetch,
            replicas=self.replicas,
            quantum=self.quantum,
            rule=self.rule,
            placement=self.placement,
        )


LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that others cannot reach."""


class CacheConfig(_Config):
    """Which answers are kept in memory, to be given again to the same key."""

    kind: Literal["exact", "semantic"]
    """`exact` wants the same request, `semantic` a last turn that means the same."""
    ttl_s: PositiveFloat = 3600.0
    """Seconds that an answer is kept."""
    max_entries: PositiveInt = 10_000
    """Most answers in one gateway, all keys together."""
    max_bytes: PositiveInt = 64 << 20
    """About how many bytes they take at most."""
    temperature_above: bool = False
    """Whether answers drawn at temperatures above 0 are kept, too."""
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.97
    """semantic: least cosine of two questions that are taken for one."""
    encoder: str = "static"
    """semantic: what reads the questions, named as for routers; `style` and `tfidf` have nothing here to learn from."""

    @model_validator(mode="after")
    def _own(self) -> CacheConfig:
        if self.kind == "exact" and (own := [name for name in ("similarity", "encoder") if name in self.model_fields_set]):
            raise ValueError(f"{own[0]} belongs to kind: semantic; exact compares no meanings")
        return self

    def absolute(self, folder: Path) -> Self:
        """The same with an encoder's path from a folder."""
        paths = [(name, (folder / name).is_dir() or name.startswith((".", "/", "~", "package:"))) for name in self.encoder.split("+")]
        read = "+".join(str(resolve_path(name, folder)) if path else name for name, path in paths)
        return self if read == self.encoder else self.model_copy(update={"encoder": read})


class ServingConfig(_Config):
    """Where the endpoint listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    dashboard: bool = False
    """Whether Ray's dashboard runs beside, on loopback."""
    keys: bool = False
    """Whether whoever asks needs an API key, made by `counterpoint keys create`."""
    open: bool = False
    """Whether it may listen beyond loopback without keys, because something else guards it."""
    store: str | None = None
    """URL of what lasts: keys, spend, traces, feedback; null keeps nothing, or with keys the user's own SQLite file."""
    keep_text: bool = False
    """Whether traces keep what was asked and answered, too."""
    keep_days: PositiveFloat = 30.0
    """Days after which what holds texts is deleted: traces, conversations, files, batches that have ended, comments of feedback."""
    gateways: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that take requests; above one they share the pool, which is then a process of its own."""
    max_requests: Annotated[int, Field(ge=1)] = 1024
    """Requests under way at once in one gateway; what comes beyond is told 429."""
    timeout_s: PositiveFloat = 600.0
    """Seconds after which a request that has not been answered is given up; requests may ask for less."""
    runs: str | None = None
    """Folder of evaluation runs, for the dashboards; null shows none."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds that requests under way may take once the endpoint is told to end."""
    log: str | None = "json"
    """Where lines about requests and faults go: `json` or `text` is the form on stderr, else a file for JSON lines; null writes none."""
    otlp: Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")] | None = None
    """Where a collector takes OpenTelemetry's spans by OTLP over HTTP, such as http://127.0.0.1:4318."""
    cache: CacheConfig | None = None
    """Which answers are kept to be given again; null keeps none."""


class MixtureConfig(_Config):
    """A whole mixture."""

    version: PositiveInt
    name: str = "counterpoint"
    """The `model` that clients ask for."""
    experts: Annotated[list[ExpertConfig], Field(min_length=1)]
    router: RouterConfig | None = None
    """None asks the experts in their order, all equally likely to be right."""
    aggregator: AggregatorConfig = AggregatorConfig()
    pool: PoolConfig = PoolConfig()
    serving: ServingConfig = ServingConfig()

    @field_validator("version")
    @classmethod
    def _newest(cls, version: int) -> int:
        if version != CONFIG.newest:
            raise ValueError(f"wanted {CONFIG.newest}, not {version}")
        return version

    @model_validator(mode="after")
    def _consistent(self) -> MixtureConfig:
        names = [expert.name for expert in self.experts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two experts are called {twice[0]!r}")
        if self.name in names:
            raise ValueError(f"the mixture and an expert are both called {self.name!r}")
        for expert in self.experts:
            base = next((other for other in self.experts if other.name == expert.base), None)
            if expert.base is not None and (base is None or base.model is None):
                raise ValueError(f"expert {expert.name!r}: base must be an expert with a model of its own, not {expert.base!r}")
        if all(expert.role == "constant" for expert in self.experts):
            raise ValueError("every expert is constant: at least one must answer other questions")
        if unknown := [name for name in self.aggregator.experts if name not in names]:
            raise ValueError(f"aggregator: no expert is called {unknown[0]!r}; there are {', '.join(names)}")
        return self


def load_config(path: Path) -> MixtureConfig:
    """Read a mixture's YAML; paths in it become absolute, from the YAML's folder or, after `package:`, from ours.

    Raises:
        ConfigError: The file is absent, no YAML, or says something that does not fit; one line, with the place.
    """
    raw = read_mapping(path)
    if "version" in raw:  # without one it is refused below
        raw = {**CONFIG.read(raw, raw["version"], path), "version": CONFIG.newest}
    try:
        config = MixtureConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_line(error, raw)}") from error
    made = _absolute(config, path.resolve().parent)
    try:
        made.aggregator.build()
    except CounterpointError as error:
        raise ConfigError(f"{path}: aggregator: {error}") from error
    return made


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the mapping of a mixture's YAML, whatever its version.

    Raises:
        ConfigError: The file is absent, no YAML, or no mapping.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"no config at {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: wanted a mapping with version, experts and so on, not {type(raw).__name__}")
    return raw


def _first_line(error: ValidationError, raw: dict[str, Any]) -> str:
    first = error.errors()[0]
    place = ".".join(_named(raw, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        near = difflib.get_close_matches(key, _keys_at(first["loc"][:-1]), n=1)
        message = "no such key" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_keys_at(first['loc'][:-1]))}")
    elif first["type"] != "value_error" and first["type"] != "missing":
        message = f"{message}, not {first['input']!r}"
    more = len(error.errors()) - 1
    return f"{place + ': ' if place else ''}{message}" + (f" (and {more} more)" if more else "")


def _named(raw: Any, location: tuple[int | str, ...]) -> list[str]:
    """The place of an error, with experts by their names."""
    names: list[str] = []
    for part in location:
        if isinstance(raw, dict) and part in raw:
            raw = raw[part]
        elif isinstance(raw, list) and isinstance(part, int):
            raw = raw[part]
        else:
            raw = None
        names.append(str(raw["name"]) if isinstance(part, int) and isinstance(raw, dict) and "name" in raw else str(part))
    return names


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    model: Any = MixtureConfig
    for part in location:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type) and issubclass(a, BaseModel)]
            if not inner:
                return []
            model = inner[0]
    return list(model.model_fields)


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


def resolve_path(path: str, folder: Path) -> Path:
    """Make a config's path absolute.

    Example:
        >>> resolve_path("router", Path("/srv/mixture")).as_posix()
        '/srv/mixture/router'
    """
    if path.startswith("package:"):
        return ASSETS / path.removeprefix("package:")
    return (folder / Path(path).expanduser()).resolve()


def _absolute(config: MixtureConfig, folder: Path) -> MixtureConfig:
    experts = []
    for expert in config.experts:
        changes: dict[str, Any] = {}
        if expert.adapter is not None:
            adapter = resolve_path(expert.adapter, folder)
            if not (adapter / "adapter_config.json").is_file():
                raise ConfigError(f"experts.{expert.name}.adapter: no LoRA adapter at {adapter}")
            changes["adapter"] = str(adapter)
        local = expert.model is not None and (expert.model.startswith((".", "/", "~", "package:")) or (folder / expert.model).exists())
        if local and expert.model is not None and expert.engine not in ("openai", "litellm", "scripted"):
            model = resolve_path(expert.model, folder)
            if not model.exists():
                raise ConfigError(f"experts.{expert.name}.model: nothing at {model}")
            changes["model"] = str(model)
        experts.append(expert.model_copy(update=changes))
    update: dict[str, Any] = {"experts": experts}
    if config.router is not None:
        update["router"] = config.router.model_copy(update={"path": str(resolve_path(config.router.path, folder))})
    update["aggregator"] = config.aggregator.absolute(folder)
    if config.serving.runs is not None:
        update["serving"] = config.serving.model_copy(update={"runs": str(resolve_path(config.serving.runs, folder))})
    if config.serving.log not in (None, "json", "text"):
        log = resolve_path(config.serving.log, folder)
        if not log.parent.is_dir():
            raise ConfigError(f"serving.log: no folder at {log.parent}; wanted json, text, or a file in a folder that is there")
        update["serving"] = update.get("serving", config.serving).model_copy(update={"log": str(log)})
    if config.serving.cache is not None:
        update["serving"] = update.get("serving", config.serving).model_copy(update={"cache": config.serving.cache.absolute(folder)})
    return config.model_copy(update=update)


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
