"""Tensors of torch, where it is installed: it is too large to be installed for this alone."""

from __future__ import annotations

import pickle

import pytest
from enginery.objects import layout
from enginery.pickles import dumps, loads, loads_mapped

torch = pytest.importorskip("torch")

N = 100_000


def there(value):
    """Return what arrives, and how many buffers and bytes of pickle it took."""
    payload, buffers = dumps(value)
    file = bytearray(b"".join(layout.plan(payload, buffers).pieces))
    arrived = loads_mapped(*layout.read(memoryview(file)))
    same = loads(payload, buffers)
    assert type(arrived) is type(same)
    return arrived, len(buffers), len(payload)


TENSORS = {
    "float32": lambda: torch.arange(N, dtype=torch.float32),
    "bool": lambda: torch.arange(N) % 2 == 0,
    "complex": lambda: torch.ones(N, dtype=torch.complex64) * 1j,
    "conjugate": lambda: (torch.ones(N, dtype=torch.complex64) * 1j).conj(),
    "transposed": lambda: torch.arange(N, dtype=torch.float64).reshape(100, -1).T,
    "every other": lambda: torch.arange(N)[::2],
    "bfloat16": lambda: torch.arange(N, dtype=torch.bfloat16).reshape(10, -1),
    "float8": lambda: torch.ones(N).to(torch.float8_e4m3fn),
    "one of bfloat16": lambda: torch.tensor(1.5, dtype=torch.bfloat16),
    "none": lambda: torch.empty(0, 3),
    "none of bfloat16": lambda: torch.empty(0, 3, dtype=torch.bfloat16),
    "one": lambda: torch.tensor(3),
    "a part of more": lambda: torch.zeros(100 * N)[:N],
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_arrives_as_it_was_and_can_be_written_to(name):
    tensor = TENSORS[name]()
    arrived, buffers, nbytes = there(tensor)
    assert arrived.dtype == tensor.dtype
    assert arrived.shape == tensor.shape
    if name == "float8":  # it cannot be compared
        arrived, tensor = arrived.view(torch.uint8), tensor.view(torch.uint8)
    assert torch.equal(arrived, tensor)
    if tensor.numel() > 1:
        assert buffers == 1
        assert nbytes < 1000
    arrived.zero_()


def test_memory_is_shared_with_the_buffer_it_came_in():
    payload, buffers = dumps(torch.zeros(N))
    memory = bytearray(buffers[0])
    arrived = loads_mapped(memoryview(payload), [memoryview(memory)])
    memory[:4] = b"\x00\x00\x80\x3f"
    assert arrived[0] == 1


def test_requires_grad_is_kept():
    assert there(torch.ones(N, requires_grad=True))[0].requires_grad
    assert not there(torch.ones(N))[0].requires_grad


def test_models():
    model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.ReLU(), torch.nn.Linear(300, 1))
    arrived, buffers, _ = there(model)
    assert buffers == 1  # the others are small
    for mine, theirs in zip(model.parameters(), arrived.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert theirs.requires_grad
        assert type(theirs) is torch.nn.Parameter
    arrived(torch.ones(2, 300)).sum().backward()
    states, _, _ = there({"state": model.state_dict()})
    assert torch.equal(states["state"]["0.weight"], model[0].weight)


def test_what_is_expanded_is_left_to_torch():
    arrived, _, nbytes = there(torch.ones(1).expand(N))
    assert arrived.shape == (N,)
    assert nbytes < 5000


def test_tensors_with_attributes_and_sparse_ones_are_left_to_torch():
    tensor = torch.ones(N)
    tensor.origin = "mine"
    assert there(tensor)[0].origin == "mine"
    assert there(torch.eye(3).to_sparse())[0].to_dense().sum() == 3


def test_other_picklers_are_not_touched():
    tensor = torch.ones(3)
    assert torch.equal(pickle.loads(pickle.dumps(tensor)), tensor)
