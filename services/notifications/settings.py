"""Settings of the notifications service."""

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from shared.chassis.settings import ServiceSettings


class NotificationsSettings(ServiceSettings):
    """What notifications must be told."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_")

    smtp_host: str = Field(default="127.0.0.1", description="Mail server")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Port of the mail server; not the one that begins encrypted (465)")
    smtp_username: str | None = Field(default=None, description="User name at the mail server; with one STARTTLS is required")
    smtp_password: SecretStr | None = Field(default=None, description="Password at the mail server")
    smtp_timeout_s: float = Field(
        default=8, gt=0, le=25, description="Longest time for one mail, seconds; below 10 a stopping process still hears the answer"
    )
    delivery_lease_s: float = Field(
        default=60,
        gt=0,
        le=3600,
        description="How long one mail stays with the process that took it, until another tries, seconds; more than twice smtp_timeout_s",
    )
    mail_from: str = Field(default="hocvu@hocvu.example", description="Sender address")
    mail_domain: str = Field(default="hocvu.example", description="Right side of Message-IDs, and our name to the mail server")
    reports_url: str = Field(
        default="https://hocvu.example/v1/reports", description="Where a reader finds reports; messages add / and the report's id"
    )

    @field_validator("delivery_lease_s")
    @classmethod
    def _outlasts_one_mail(cls, value: float, told: ValidationInfo) -> float:
        # A mail and the clearing up after it take one smtp_timeout_s each.
        if value <= 2 * told.data.get("smtp_timeout_s", 0):
            raise ValueError("must be more than twice smtp_timeout_s, or mails are repeated while they are still being sent")
        return value
