"""Settings of the enrollment service."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from shared.chassis.settings import ServiceSettings


class EnrollmentSettings(ServiceSettings):
    """What enrollment must be told."""

    model_config = SettingsConfigDict(env_prefix="ENROLLMENT_")

    pseudonym_key: SecretStr = Field(
        min_length=64, description="Key of all pseudonyms, 32 random bytes or more in hexadecimal; changing it makes every person a new one"
    )
    history_sources: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Sources that may report facts from before 2025-03-26, comma separated"
    )

    @field_validator("history_sources", mode="before")
    @classmethod
    def _sources(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
