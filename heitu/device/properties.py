"""Devices: their number, the current one, and what get_device_properties says of each."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any
from uuid import UUID

from heitu.device.activation import device_uuid, visible_devices, visible_indices
from heitu.settings import settings


@dataclasses.dataclass(frozen=True)
class CudaDeviceProperties:
    """What torch.cuda.get_device_properties returns. Sizes in bytes, clocks in kHz, bus width in bits."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    max_threads_per_multi_processor: int
    max_threads_per_block: int
    warp_size: int
    shared_memory_per_block: int
    shared_memory_per_block_optin: int
    shared_memory_per_multiprocessor: int
    regs_per_multiprocessor: int
    L2_cache_size: int
    clock_rate: int
    memory_clock_rate: int
    memory_bus_width: int
    uuid: UUID
    pci_bus_id: int
    pci_device_id: int = 0
    pci_domain_id: int = 0
    is_integrated: bool = False
    is_multi_gpu_board: bool = False
    gcnArchName: str = ""

    def __repr__(self) -> str:
        return (
            f"_CudaDeviceProperties(name='{self.name}', major={self.major}, minor={self.minor}, "
            f"total_memory={self.total_memory // 2**20}MB, "
            f"multi_processor_count={self.multi_processor_count}, uuid={self.uuid}, "
            f"pci_bus_id={self.pci_bus_id}, pci_device_id={self.pci_device_id}, "
            f"pci_domain_id={self.pci_domain_id}, L2_cache_size={self.L2_cache_size // 2**20}MB)"
        )


def install(torch_c: Any, core: Any) -> None:
    """Supplies devices and their properties."""
    memory = settings.memory
    for index in range(core.device_count()):
        facts = core.properties(index)
        if memory is not None:
            facts.total_memory = memory
        core.set_capacity(index, facts.total_memory)

    @cache
    def get_device_properties(device: int) -> CudaDeviceProperties:
        facts = core.properties(device)
        physical = visible_indices()[device]
        own: dict[str, Any] = {"uuid": UUID(device_uuid(physical)), "pci_bus_id": physical + 1}
        names = [field.name for field in dataclasses.fields(CudaDeviceProperties)]
        return CudaDeviceProperties(
            **own, **{name: getattr(facts, name) for name in names if hasattr(facts, name)}
        )

    def exchange_device(device: int) -> int:
        if device < 0:
            return -1
        previous: int = core.current_device()
        if device != previous:
            core.set_current_device(device)
        return previous

    # torch._dynamo keeps a handler for each of the two, so they must not be one function.
    def maybe_exchange_device(device: int) -> int:
        return exchange_device(device)

    def device_count() -> int:
        # CUDA reads CUDA_VISIBLE_DEVICES when it is initialised, not when torch is imported.
        if not core.initialized():
            core.set_device_count(visible_devices())
        return int(core.device_count())

    def set_device(device: int) -> None:
        core.set_current_device(device)

    torch_c._CudaDeviceProperties = CudaDeviceProperties
    torch_c._heitu_get_device_properties = get_device_properties
    torch_c._cuda_getDeviceCount = device_count
    torch_c._cuda_getDevice = core.current_device
    torch_c._cuda_setDevice = set_device
    torch_c._cuda_exchangeDevice = exchange_device
    torch_c._cuda_maybeExchangeDevice = maybe_exchange_device
    torch_c._cuda_hasPrimaryContext = lambda device: core.initialized() and device < core.device_count()
    torch_c._cuda_canDeviceAccessPeer = lambda device, peer: device != peer
