from typing import Any

import pytest

from service.domain.job_request import Hyperparameters, JobRequest, check
from tvaccine_core.errors import InvalidRequest


def request(**values: Any) -> JobRequest:
    return JobRequest(**{"model": "tiny", "training_file": "file-1", **values})


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


def test_numbers_and_auto() -> None:
    assert check(request()) == Hyperparameters(None, None, None)
    values = {"n_epochs": 50, "batch_size": "auto", "learning_rate_multiplier": 2}
    assert check(request(hyperparameters=values)) == Hyperparameters(50, None, 2.0)
    assert check(request(method=supervised(**values))) == Hyperparameters(50, None, 2.0)
    assert check(request(method=supervised(**values), hyperparameters=values)).n_epochs == 50
    assert check(request(method={"type": "supervised"})) == Hyperparameters(None, None, None)


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 1.5}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier"),
        (
            {"hyperparameters": {"learning_rate_multiplier": float("nan")}},
            "hyperparameters.learning_rate_multiplier",
        ),
        (
            {"hyperparameters": {"learning_rate_multiplier": float("inf")}},
            "hyperparameters.learning_rate_multiplier",
        ),
        ({"hyperparameters": {"beta": 1}}, "hyperparameters.beta"),
        ({"hyperparameters": {"n_epochs": 1}, "method": supervised(n_epochs=2)}, "hyperparameters"),
        ({"method": {"type": "dpo", "dpo": {}}}, "method.type"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"method": {}}, "method.type"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"suffix": ""}, "suffix"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"suffix": "a:b"}, "suffix"),
        ({"suffix": "a/b"}, "suffix"),
        ({"suffix": "a\n"}, "suffix"),
        ({"suffix": "é"}, "suffix"),
        ({"suffix": " - "}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"seed": True}, "seed"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"": "x"}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"metadata": {"k": "a\x00b"}}, "metadata"),
        ({"metadata": {"k": "\ud800"}}, "metadata"),
        ({"idempotency_key": ""}, "Idempotency-Key"),
        ({"idempotency_key": "x" * 256}, "Idempotency-Key"),
    ],
)
def test_the_field_at_fault_is_named(values: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(request(**values))
    assert caught.value.param == param
    assert caught.value.status == 400


def test_everything_at_its_limit() -> None:
    check(
        request(
            suffix="My model_1.0-b",
            seed=2**31 - 1,
            integrations=[],
            idempotency_key="k" * 255,
            metadata={f"{n:064}": "v" * 512 for n in range(16)},
        )
    )


def test_the_digest_tells_requests_apart_but_not_their_keys() -> None:
    one = request(metadata={"a": "1", "b": "2"}, idempotency_key="x")
    assert one.digest() == request(metadata={"b": "2", "a": "1"}, idempotency_key="y").digest()
    assert one.digest() != request(metadata={"a": "1"}).digest()
