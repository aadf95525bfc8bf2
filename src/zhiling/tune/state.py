"""Everything a training step depends on, as tensors and JSON, and back: weights, optimizer moments, random state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zhiling.tune.shard import part, wholes

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def snapshot(params: Mapping[str, Any], optimizer: Any) -> dict[str, dict[str, Any]]:
    """The tensors of a checkpoint by file: "weights", one file per moment of AdamW, and "rng". All ranks must ask for it."""
    import torch

    held = {name: optimizer.state[parameter] for name, parameter in params.items() if parameter in optimizer.state}
    files = {moment: wholes({name: state[moment] for name, state in held.items()}) for moment in MOMENTS}
    rng = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng["cuda"] = torch.cuda.get_rng_state()
    return {"weights": wholes(params), **files, "rng": rng}


def put(params: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    """Give the parameters these values."""
    import torch

    with torch.no_grad():
        for name, parameter in params.items():
            parameter.copy_(part(weights[name], parameter))


def restore(params: Mapping[str, Any], optimizer: Any, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a snapshot back. The parameters must be those that it was taken from."""
    import torch

    put(params, tensors["weights"])
    numbers = {name: number for number, name in enumerate(params)}
    state = {
        numbers[name]: {
            "step": tensors["step"][name],
            **{moment: part(tensors[moment][name], params[name]) for moment in MOMENTS[1:]},
        }
        for name in params
        if name in tensors["step"]
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["rng"]["cpu"])
    if "cuda" in tensors["rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng"]["cuda"])
