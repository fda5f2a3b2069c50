"""Settings of the assessment service."""

from pydantic_settings import SettingsConfigDict

from shared.chassis.settings import ServiceSettings


class AssessmentSettings(ServiceSettings):
    """What assessment must be told."""

    model_config = SettingsConfigDict(env_prefix="ASSESSMENT_")
