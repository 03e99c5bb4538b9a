"""Storages of the device, and their old typed names."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch


def test_untyped_storage_is_made_on_the_device() -> None:
    storage = torch.UntypedStorage(12, device="cuda")
    assert storage.device == torch.device("cuda", 0)
    assert storage.nbytes() == 12
    assert storage.resizable()
    storage.fill_(3)
    assert storage.cpu().tolist() == [3] * 12
    assert torch.UntypedStorage([1, 2, 250], device="cuda").tolist() == [1, 2, 250]
    assert torch.UntypedStorage(device="cuda").nbytes() == 0


def test_typed_storage_is_made_on_the_device() -> None:
    storage = torch.TypedStorage([1.5, 2.5], dtype=torch.float32, device="cuda")
    assert storage.is_cuda
    assert storage.tolist() == [1.5, 2.5]
    assert isinstance(torch.cuda.FloatStorage(4), torch.cuda.FloatStorage)
    assert torch.cuda.FloatStorage([1.0, 2.0]).tolist() == [1.0, 2.0]
    assert torch.ones(2, device="cuda").storage().type() == "torch.cuda.FloatStorage"


def test_resize_keeps_the_storage_and_its_content() -> None:
    tensor = torch.arange(4, device="cuda", dtype=torch.int32)
    view = tensor[2:]
    storage = tensor.untyped_storage()
    identity = storage._cdata
    storage.resize_(32)
    assert storage._cdata == identity
    assert storage.nbytes() == 32
    assert tensor.tolist() == [0, 1, 2, 3]
    assert view.tolist() == [2, 3]
    tensor.add_(10)
    assert view.tolist() == [12, 13]


def test_resize_to_nothing_frees_the_memory_and_back_takes_it() -> None:
    tensor = torch.ones(1 << 20, device="cuda")
    before = torch.cuda.memory_allocated()
    tensor.untyped_storage().resize_(0)
    assert torch.cuda.memory_allocated() == before - (4 << 20)
    assert tensor.untyped_storage().nbytes() == 0
    assert tensor.shape == (1 << 20,)
    tensor.untyped_storage().resize_(4 << 20)
    assert torch.cuda.memory_allocated() == before
    assert tensor.fill_(2).sum().item() == 2 << 20


def test_resize_refuses_what_has_no_size() -> None:
    storage = torch.UntypedStorage(4, device="cuda")
    with pytest.raises(RuntimeError, match="cannot be represented as a size_t"):
        storage.resize_(-1)
    with pytest.raises(RuntimeError, match="expects an int"):
        storage.resize_(1.5)  # type: ignore[arg-type]


def test_storages_copy_between_devices() -> None:
    host = torch.UntypedStorage([1, 2, 3])
    device = host.cuda()
    assert device.device.type == "cuda"
    assert device.data_ptr() != host.data_ptr()
    assert device.clone().tolist() == [1, 2, 3]
    assert torch.UntypedStorage(3, device="cuda").copy_(host).tolist() == [1, 2, 3]
    assert torch.UntypedStorage(3).copy_(device).tolist() == [1, 2, 3]
    assert copy.deepcopy(device).tolist() == [1, 2, 3]
    assert device.is_shared()
    assert device.share_memory_() is device


def test_tensors_share_a_storage() -> None:
    storage = torch.UntypedStorage(16, device="cuda")
    first = torch.empty(0, device="cuda").set_(storage)
    second = torch.empty(0, device="cuda", dtype=torch.int32).set_(storage)
    second.fill_(7)
    assert first.view(torch.int32).tolist() == [7] * 4
    assert first.untyped_storage()._cdata == storage._cdata


@pytest.mark.parametrize("name", ["FloatTensor", "DoubleTensor", "HalfTensor", "LongTensor", "BoolTensor"])
def test_legacy_types_make_tensors(name: str) -> None:
    legacy = getattr(torch.cuda, name)
    tensor = legacy(2, 3)
    assert tensor.shape == (2, 3)
    assert tensor.is_cuda
    assert tensor.dtype == legacy.dtype
    assert tensor.type() == f"torch.cuda.{name}"
    assert isinstance(tensor, legacy)
    assert not isinstance(tensor.cpu(), legacy)
    assert legacy([0, 1]).tolist() == [0, 1]
    assert legacy.is_cuda
    assert torch.zeros(2).type(legacy).type() == f"torch.cuda.{name}"
    assert torch.zeros(2).type(f"torch.cuda.{name}").dtype == legacy.dtype


def test_legacy_types_refuse_what_cuda_refuses() -> None:
    with pytest.raises(TypeError, match=r"expected .*device=cuda.*got .*device=cpu"):
        torch.cuda.FloatTensor(torch.zeros(2))
    with pytest.raises(TypeError):
        torch.cuda.FloatTensor("word")


def test_default_tensor_type_may_be_of_the_device() -> None:
    try:
        torch.set_default_tensor_type(torch.cuda.DoubleTensor)
        assert torch.zeros(2).device.type == "cuda"
        assert torch.tensor([1.0]).dtype == torch.float64
        assert torch.Tensor(2).is_cuda
        torch.set_default_tensor_type("torch.cuda.FloatTensor")
        assert torch.empty(1).dtype == torch.float32
    finally:
        torch.set_default_tensor_type(torch.FloatTensor)
    assert torch.zeros(2).device.type == "cpu"


def test_saved_tensors_come_back_where_they_were_or_are_sent() -> None:
    tensor = torch.arange(6, device="cuda", dtype=torch.float32).reshape(2, 3)
    shared = {"whole": tensor, "row": tensor[1]}
    file = io.BytesIO()
    torch.save(shared, file)
    for weights_only in (True, False):
        file.seek(0)
        loaded = torch.load(file, weights_only=weights_only)
        assert loaded["whole"].device == torch.device("cuda", 0)
        assert torch.equal(loaded["whole"], tensor)
        loaded["whole"][1, 0] = 99
        assert loaded["row"][0].item() == 99
    for location in ("cpu", torch.device("cpu"), {"cuda:0": "cpu"}, lambda storage, _: storage):
        file.seek(0)
        assert torch.load(file, map_location=location)["row"].device.type == "cpu"
    host = io.BytesIO()
    torch.save(torch.ones(3), host)
    host.seek(0)
    assert torch.load(host, map_location="cuda").is_cuda


def test_old_serialization_format_works() -> None:
    file = io.BytesIO()
    torch.save(torch.ones(3, device="cuda"), file, _use_new_zipfile_serialization=False)
    file.seek(0)
    assert torch.equal(torch.load(file), torch.ones(3, device="cuda"))


def test_pickle_and_deepcopy_keep_device_and_sharing() -> None:
    tensor = torch.arange(4.0, device="cuda", requires_grad=True)
    again = pickle.loads(pickle.dumps(tensor))
    assert again.is_cuda
    assert again.requires_grad
    assert again.tolist() == tensor.tolist()
    base = torch.zeros(3, device="cuda")
    copied, view = copy.deepcopy([base, base[1:]])
    copied[1] = 5
    assert view[0].item() == 5
    assert base[1].item() == 0
    parameter = copy.deepcopy(torch.nn.Parameter(base))
    assert isinstance(parameter, torch.nn.Parameter)
