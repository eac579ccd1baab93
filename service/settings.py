"""Everything an operator can set, read from environment variables that start with ``TVACCINE_``.

No ``.env`` file is read. Directories that are not set are placed under ``data_dir``.
"""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from service.policies import PolicyName
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.names import absolute_judge
from tvaccine_core.evaluation.screening_config import ScreenConfig

EMBEDDED_BASE = "smollm2-135m-instruct"
PREFIX = "TVACCINE_"


def _under(name: str) -> Any:
    """A directory `name` under `data_dir`, as the default of a later field."""
    return Field(default_factory=lambda values: values["data_dir"] / name, validate_default=True)


class Settings(BaseSettings):
    """The settings of every process of the service. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=None, env_ignore_empty=True, extra="ignore", frozen=True
    )

    data_dir: Path = Field(default=Path("~/.local/share/tvaccine"), validate_default=True)
    database_url: str = Field(default_factory=lambda values: f"sqlite:///{values['data_dir'] / 'tvaccine.sqlite3'}")
    broker_url: str = "filesystem://"
    broker_dir: Path = _under("broker")
    artefacts_dir: Path = _under("artefacts")
    scratch_dir: Path = _under("scratch")

    base: str = Field(default=EMBEDDED_BASE, min_length=1)
    allowed_bases: Annotated[list[str], NoDecode] = Field(default_factory=lambda values: [values["base"]], min_length=1)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    log_json: bool = False

    max_upload_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    max_rows: int = Field(default=100_000, ge=1)

    lease_seconds: float = Field(default=30.0, gt=0)
    renew_seconds: float = Field(default=5.0, gt=0)
    dispatch_after_seconds: float = Field(default=30.0, gt=0)
    max_attempts: int = Field(default=5, ge=1)
    cancel_grace_seconds: float = Field(default=15.0, ge=0)

    policy: PolicyName = "t_vaccine"
    """What `vaccine` and `defences` are where they do not say: see `service/policies.py`."""
    vaccine: dict[str, Any] = Field(default_factory=dict)
    fine_tune: dict[str, Any] = Field(default_factory=dict)
    gate: dict[str, Any] = Field(default_factory=dict)
    screening: Literal["report", "drop", "block"] = "report"
    screening_rules: dict[str, Any] = Field(default_factory=dict)
    """Thresholds of the screening: the fields of `tvaccine_core.evaluation.screening_config.ScreenConfig`."""
    defences: list[Any] | None = None
    """What every fine-tuning does against harmful rows: names, or objects with a name and settings; None: the policy's.

    See `tvaccine_core.finetuning.defences`."""
    repairing: Literal["off", "panacea"] = "off"
    """What is tried, once, with a model that did not pass the gate."""
    repair: dict[str, Any] = Field(default_factory=dict)
    """Settings of the repair: the fields of `tvaccine_core.repair.config.RepairConfig`."""
    certificate: Literal["off", "made", "required"] = "off"
    """Whether making a vaccine ends with an attack on itself; "required": no job uses one that did not pass."""
    certificate_rules: dict[str, Any] = Field(default_factory=dict)
    """Attacks and limits: the fields of `tvaccine_core.certificate.config.CertificateConfig`."""
    certificate_files: dict[Literal["harmful", "task", "heldout", "chat"], Path] = Field(default_factory=dict)
    """Rows of the attacks instead of the shipped ones, by role; see `tvaccine_core.certificate.rows`."""
    alignment_file: Path | None = None
    harmful_file: Path | None = None
    gate_prompts_file: Path | None = None
    judge: str | None = None
    """Name of the judge that screens and decides (`evaluation/judge/names.py`). None: the embedded one."""
    benign_prompts_file: Path | None = None
    """Harmless prompts: a model that refuses nearly all of them is blocked. None: the shipped ones."""
    gate_secret: SecretStr | None = Field(default=None, min_length=16)
    """Decides the gate's pool and each job's draw. None: a random one, made once in `data_dir`."""

    dtype: str = "auto"
    device: str = "auto"
    save_every: int = Field(default=20, ge=1)

    @field_validator(
        "data_dir",
        "broker_dir",
        "artefacts_dir",
        "scratch_dir",
        "alignment_file",
        "harmful_file",
        "gate_prompts_file",
        "benign_prompts_file",
    )
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """Paths are made absolute once, so that a process may change its working directory."""
        return None if value is None else value.expanduser().absolute()

    @field_validator("certificate_files")
    @classmethod
    def _absolute_files(cls, value: dict[str, Path]) -> dict[str, Path]:
        """The same for paths by role."""
        return {role: path.expanduser().absolute() for role, path in value.items()}

    @field_validator("judge")
    @classmethod
    def _absolute_judge(cls, value: str | None) -> str | None:
        """The same for directories in a judge's name; whether it names a judge is checked where it is used."""
        return None if value is None else absolute_judge(value)

    @field_validator("screening_rules")
    @classmethod
    def _usable_rules(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Rules that no screening could follow are refused here, where every process starts."""
        try:
            ScreenConfig.from_dict(value)
        except InvalidRequest as error:
            raise ValueError(error.message) from error
        return value

    @field_validator("allowed_bases", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Names separated by commas, as an environment variable gives them."""
        if isinstance(value, str):
            return [name.strip() for name in value.split(",") if name.strip()]
        return value

    @field_validator("renew_seconds")
    @classmethod
    def _renewed_in_time(cls, value: float, info: Any) -> float:
        """A lease that is renewed more slowly than it runs out would lose every job."""
        lease = info.data.get("lease_seconds")
        if lease is not None and value * 2 > lease:
            raise ValueError(f"must be at most half of lease_seconds ({lease:g})")
        return value

    def make_directories(self) -> None:
        """Create the directories that the service writes to; private to the user that runs it."""
        for directory in (self.data_dir, self.broker_dir, self.artefacts_dir, self.scratch_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment and `overrides`.

    Raises InvalidRequest (code ``invalid_settings``) whose message names every wrong variable.
    """
    try:
        return Settings(**overrides)
    except SettingsError as error:  # the library's only word on it is a sentence that quotes the field
        field = str(error).partition('"')[2].partition('"')[0]
        message = f"Invalid settings: {PREFIX}{field.upper()}: not valid JSON"
        raise InvalidRequest(message, code="invalid_settings") from error
    except ValidationError as error:
        faults = [
            {"path": ".".join(str(part) for part in fault["loc"]), "message": fault["msg"]}
            for fault in error.errors(include_url=False, include_input=False)
        ]
        named = "; ".join(f"{PREFIX}{fault['path'].upper()}: {fault['message']}" for fault in faults)
        raise InvalidRequest(f"Invalid settings: {named}", code="invalid_settings", details=faults) from error


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once. Raises InvalidRequest like `load_settings`."""
    return load_settings()
