"""Settings of the commands that talk to a running Upwell."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from workers.contract.settings import Group


class ClientSettings(Group):
    """Where the running Upwell is, and who we are there.  An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="UPWELL_", frozen=True, extra="ignore", env_ignore_empty=True)

    api_url: str | None = Field(
        None,
        description="Base URL of the api. Unset: that of the `upwell up` on the data directory, else http://127.0.0.1:8080.",
    )
    api_key: SecretStr | None = Field(None, description="Bearer key for the api; the embedded mode needs none.")
    against_api_key: SecretStr | None = Field(
        None,
        description="Bearer key for the other Upwell of `upwell evaluate --against URL`; ours never goes there.",
    )
    data_dir: Path = Field(Path(".upwell"), description="Data directory in which a running `upwell up` is looked for.")
