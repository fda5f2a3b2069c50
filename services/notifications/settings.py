"""Settings of the notifications service."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.chassis.settings import ServiceSettings


class NotificationsSettings(ServiceSettings):
    """What notifications must be told."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_")

    smtp_host: str = Field(default="127.0.0.1", description="Mail server")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Port of the mail server")
    smtp_timeout_s: float = Field(default=10, gt=0, description="Longest wait for the mail server's answer, seconds")
    mail_from: str = Field(default="hocvu@hocvu.example", description="Sender address")
    mail_domain: str = Field(default="hocvu.example", description="Right side of Message-IDs")
