"""Gradients of our step on a model sharded over the ranks of a `torchrun` environment: `python sharded_program.py OUT`.

Every rank takes a step on a batch of its own, in two windows that freeze different adapters; the first leaves the whole
gradients in OUT/gradients-WINDOW.safetensors.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

WINDOWS = (((1, 3), "attention"), ((2,), "layer"))


def neighbour(name: str) -> Any:
    """A module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(f"neighbour_{name}", Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def supervised(inputs: dict[str, Any]) -> int:
    return int((inputs["labels"][:, 1:] != -100).sum())


def main(out: Path) -> None:
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from tvaccine_core.alignment.efficient import EfficientScheme
    from tvaccine_core.alignment.freezing import find_adapters, open_window, release_all
    from tvaccine_core.training.ranks import is_sharded, part_of_sum, sum_gradients

    distributed.init_process_group("gloo")
    rank, mesh = distributed.get_rank(), init_device_mesh("cpu", (distributed.get_world_size(),))
    fixtures = neighbour("conftest")
    here = fixtures.make_setting("llama")
    batches = [fixtures.make_batch(rows=2 + r, seed=r) for r in range(distributed.get_world_size())]
    share = supervised(batches[rank]) / sum(map(supervised, batches))
    scheme = EfficientScheme(here.model, here.layers, 0.5)
    for layer in here.layers.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(here.model, mesh=mesh)
    adapters = find_adapters(here.model, here.layers)
    for number, (selected, scope) in enumerate(WINDOWS):
        window = open_window(adapters, selected, method="t_vaccine", freeze_scope=scope, mlp_below=True)
        assert is_sharded(window.trainable)
        scheme.open_window(window)
        here.model.zero_grad()
        part = part_of_sum(share, window.trainable)
        scheme.step(batches[rank], lambda loss, part=part: (loss * part).backward())
        sum_gradients(window.trainable)
        whole = {n: p.grad.full_tensor() for n, p in here.model.named_parameters() if p.grad is not None}
        if rank == 0:
            save_file(
                {name: tensor.contiguous() for name, tensor in whole.items()}, out / f"gradients-{number}.safetensors"
            )
    release_all(adapters)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    root = Path(__file__).parents[3]
    sys.path[:0] = [str(root), str(root / "tests")]
    assert os.environ["WORLD_SIZE"]
    main(Path(sys.argv[1]))
    # Not through the interpreter's shutdown: now and then gloo's threads abort it, when all is written.
    os._exit(0)
