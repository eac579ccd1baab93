"""What a caller sends to create a fine-tuning job."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints

from api.schemas.hyperparameters import Hyperparameters

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
ObjectId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class SupervisedMethod(BaseModel):
    """The parameters of supervised fine-tuning."""

    model_config = ConfigDict(extra="forbid")

    hyperparameters: Hyperparameters | None = None


class Method(BaseModel):
    """The training method. This server trains with `supervised` only."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedMethod | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class Wandb(BaseModel):
    """Where in Weights & Biases a run would be reported."""

    model_config = ConfigDict(extra="forbid")

    project: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Annotated[str, StringConstraints(max_length=128)] | None = None
    entity: Annotated[str, StringConstraints(max_length=128)] | None = None
    tags: Annotated[list[str], Field(max_length=50)] | None = None


class Integration(BaseModel):
    """An integration of a job."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["wandb"]
    wandb: Wandb


class JobCreate(BaseModel):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        description="A base model that `GET /v1/models` lists."
    )
    training_file: ObjectId = Field(description="The id of an uploaded file with purpose `fine-tune`.")
    validation_file: ObjectId | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    seed: Annotated[StrictInt, Field(ge=0, le=2147483647)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = Field(
        default=None,
        description="Use `method.supervised.hyperparameters`.",
        json_schema_extra={"deprecated": True},
    )
