"""Settings of the reporting service."""

from pydantic_settings import SettingsConfigDict

from shared.chassis.settings import ServiceSettings


class ReportingSettings(ServiceSettings):
    """What reporting must be told."""

    model_config = SettingsConfigDict(env_prefix="REPORTING_")
