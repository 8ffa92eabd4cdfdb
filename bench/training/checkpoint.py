"""The state of a long training on disk, so that a killed training continues from its last complete pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bench.system.files import write_atomically

MODEL, MOMENTUM, ORDER, NOISE, CUDA_NOISE = "model.", "momentum.", "order", "noise", "cuda_noise"


@dataclass(frozen=True)
class Snapshot:
    """The state of one training, in the file `path`. `key` identifies the training; the state of another is ignored."""

    path: Path
    key: str

    def save(self, step: int, model: nn.Module, optimiser: torch.optim.SGD, order: torch.Generator) -> None:
        """Write weights, momentum and all random states after `step` updates."""
        tensors = {MODEL + name: value for name, value in model.state_dict().items()}
        tensors |= {f"{MOMENTUM}{index}": value for index, value in enumerate(_momenta(optimiser))}
        tensors |= {ORDER: order.get_state(), NOISE: torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors[CUDA_NOISE] = torch.cuda.get_rng_state()
        whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_atomically(self.path, save(whole, metadata={"key": self.key, "step": str(step)}))

    def restore(self, model: nn.Module, optimiser: torch.optim.SGD, order: torch.Generator) -> int:
        """Load the saved state and return the number of updates made so far; 0 if this training has no saved state."""
        saved = self._read()
        if saved is None:
            return 0
        step, tensors = saved
        state = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
        model.load_state_dict(state)
        parameters = optimiser.param_groups[0]["params"]
        for index, parameter in enumerate(parameters):
            optimiser.state[parameter]["momentum_buffer"] = tensors[f"{MOMENTUM}{index}"].to(parameter)
        order.set_state(tensors[ORDER])
        torch.set_rng_state(tensors[NOISE])
        if CUDA_NOISE in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors[CUDA_NOISE])
        return step

    def forget(self) -> None:
        """Delete the file, once the training is over."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[int, dict[str, Tensor]] | None:
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    return None
                return int(metadata["step"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            return None


def _momenta(optimiser: torch.optim.SGD) -> list[Tensor]:
    """The momentum of each parameter in order; zeros for a parameter that has had no gradient."""
    parameters = optimiser.param_groups[0]["params"]
    buffers = [optimiser.state.get(parameter, {}).get("momentum_buffer") for parameter in parameters]
    return [torch.zeros_like(p) if m is None else m for p, m in zip(parameters, buffers, strict=True)]
