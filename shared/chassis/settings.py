"""Settings that every service has. One frozen class per service extends this one; only `main` builds it."""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class ApiKey(BaseModel):
    """One caller of the API. The key itself is known to the caller only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Who calls; stands in logs and audits")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, hexadecimal; keys are random, 32 bytes or more")
    scopes: tuple[str, ...] = Field(description='What the caller may do; "*" is everything')
    source: str | None = Field(default=None, description="The only CloudEvents source this caller may speak for; absent: any")


class ServiceSettings(BaseSettings):
    """What a service must be told by its environment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    kafka_bootstrap_servers: Annotated[tuple[str, ...], NoDecode] = Field(description="Brokers to ask first, host:port, comma separated")
    database_url: SecretStr = Field(description="postgresql://role:password@host:port/database")
    pool_size: int = Field(default=8, ge=2, le=100, description="Database connections per process")
    takeover_s: float = Field(
        default=10, ge=1, le=60, description="A process that is silent this long loses its partitions, leases and locks to another, seconds"
    )
    profile: Literal["production", "development"] = Field(
        default="production", description="production insists on three replicas and two in sync of every topic; development does without"
    )
    instance: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,80}$",
        description="Name of this worker, its own, and the same after a restart, which then moves no partitions; absent: a new member each time",
    )
    http_host: str = Field(default="127.0.0.1", description="Address to listen on")
    http_port: int = Field(ge=1, le=65535, description="Port of the API, or of health and metrics of a worker")
    api_keys: tuple[ApiKey, ...] = Field(default=(), description="Callers of the API, JSON list")
    max_batch: int = Field(default=5000, ge=1, le=100_000, description="Most records in one transaction")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least severity that is logged")
    otlp_endpoint: str | None = Field(
        default=None, description="OTLP/HTTP address for traces, for example http://127.0.0.1:4318/v1/traces; absent: no traces"
    )
    trace_ratio: float = Field(default=0.01, ge=0, le=1, description="Share of new traces that are kept")

    @field_validator("kafka_bootstrap_servers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


_OF_OTHERS = re.compile(r"PASSWORD|(\w+_)?SERVICE_(HOST|PORT(_\w+)?)|(\w+_)?PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
"""What follows the prefix in variables that are not meant for the service: the database role's password, which the stack
of containers keeps under this name, and what Kubernetes tells every process of a service of that name."""

_LINK = re.compile(r"(\w+_)?PORT=(tcp|udp|sctp)://.*")
"""Kubernetes once more, here told from a misspelt port by its value."""


def unknown(settings: type[ServiceSettings], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables with the service's prefix that are no settings, each with the setting that looks most like it."""
    prefix = str(settings.model_config.get("env_prefix", "")).upper()
    names = [f"{prefix}{name}".upper() for name in settings.model_fields]
    found = {}
    for variable, value in environment.items():
        name = variable.upper()
        rest = name.removeprefix(prefix)
        if not prefix or not name.startswith(prefix) or name in names or _OF_OTHERS.fullmatch(rest) or _LINK.fullmatch(f"{rest}={value}"):
            continue
        found[variable] = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
    return found
