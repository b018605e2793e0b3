"""The endpoint, as a config describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from serving.config.base import Section, resolve_path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that others cannot reach."""


class CacheConfig(Section):
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


class ServingConfig(Section):
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
