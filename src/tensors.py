"""How tensors of torch are pickled: through numpy, so that their memory goes as a buffer of its own, and is not copied.

torch's own pickles have it inside. Nothing here imports torch before the user has.
"""

from __future__ import annotations

import sys
from typing import Any

_ours: dict[type, Any] = {}
"""How to reduce types, once they are there."""


def reducers() -> dict[type, Any]:
    """Return how to reduce tensors; nothing while torch is not loaded."""
    if not _ours:
        torch: Any = sys.modules.get("torch")
        tensor = getattr(torch, "Tensor", None)  # it may be half loaded, by another thread
        if tensor is not None and hasattr(torch, "from_numpy"):
            _ours[tensor] = _reduce
    return _ours


def _reduce(tensor: Any) -> Any:
    torch: Any = sys.modules["torch"]
    if (
        tensor.device.type != "cpu"
        or tensor.layout is not torch.strided
        or tensor.is_quantized
        or tensor.__dict__
        or tensor._backward_hooks
        or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()  # expanded: its own is shorter
    ):
        return tensor.__reduce_ex__(5)
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    try:
        return _tensor, (plain.numpy(), tensor.requires_grad)
    except TypeError:  # of a type that numpy has not, such as bfloat16
        raw = plain.reshape(-1).view(torch.uint8).numpy()
        return _tensor, (raw, tensor.requires_grad, tensor.dtype, tuple(tensor.shape))


def _tensor(array: Any, requires_grad: bool, dtype: Any = None, shape: tuple[int, ...] = ()) -> Any:
    import torch  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415 - whoever gets a tensor needs it

    if not array.flags.writeable:  # a small one, within the pickle
        array = array.copy()
    tensor = torch.from_numpy(array)
    if dtype is not None:
        tensor = tensor.view(dtype).reshape(shape)
    return tensor.requires_grad_() if requires_grad else tensor
