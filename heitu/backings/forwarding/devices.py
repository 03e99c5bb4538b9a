"""Devices: their number, the current one, and their properties, as far as the plugin tells them."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from heitu.backings import silence
from heitu.backings.forwarding.plugin import Plugin
from heitu.device.properties import CudaDeviceProperties

# Programs choose their ways by the capability; of what the first and the second number mean, only "Ampere or
# newer has bfloat16" concerns other makers' chips, which all of these have.
CAPABILITY = (8, 0)


def install(torch_c: Any, core: Any, plugin: Plugin) -> None:
    """Supplies devices and their properties."""

    @cache
    def get_device_properties(device: int) -> CudaDeviceProperties:
        return _properties(plugin, device)

    def device_count() -> int:
        count: int = core.device_count()
        if count == 0:
            silence.say_once()
        return count

    def exchange_device(device: int) -> int:
        if device < 0:
            return -1
        previous: int = core.current_device()
        if device != previous:
            core.set_device(device)
        return previous

    # torch._dynamo keeps a handler for each of the two, so they must not be one function.
    def maybe_exchange_device(device: int) -> int:
        return exchange_device(device)

    def can_access_peer(device: int, peer: int) -> bool:
        function = plugin.find("can_device_access_peer")
        return bool(function(device, peer)) if function is not None else False

    torch_c._CudaDeviceProperties = CudaDeviceProperties
    torch_c._heitu_get_device_properties = get_device_properties
    torch_c._cuda_getDeviceCount = device_count
    torch_c._cuda_getDevice = core.current_device
    torch_c._cuda_setDevice = lambda device: core.set_device(device)
    torch_c._cuda_exchangeDevice = exchange_device
    torch_c._cuda_maybeExchangeDevice = maybe_exchange_device
    torch_c._cuda_hasPrimaryContext = core.has_primary_context
    torch_c._cuda_canDeviceAccessPeer = can_access_peer


def _properties(plugin: Plugin, device: int) -> CudaDeviceProperties:
    """What CUDA would say of the device; 0 stands for what the plugin does not tell."""
    asked = plugin.find("get_device_properties")
    told: Any = asked(device) if asked is not None else SimpleNamespace()

    def number(*names: str) -> int:
        values = (getattr(told, name, None) for name in names)
        return next((int(value) for value in values if isinstance(value, int)), 0)

    major, minor = CAPABILITY
    if isinstance(getattr(told, "major", None), int) and told.major >= major:
        major, minor = told.major, int(getattr(told, "minor", 0))
    uuid = getattr(told, "uuid", None)
    return CudaDeviceProperties(
        name=str(getattr(told, "name", plugin.device)),
        major=major,
        minor=minor,
        total_memory=number("total_memory"),
        multi_processor_count=number("multi_processor_count", "cube_core_num", "cluster_count"),
        max_threads_per_multi_processor=number("max_threads_per_multi_processor"),
        max_threads_per_block=number("max_threads_per_block"),
        warp_size=number("warp_size"),
        shared_memory_per_block=number("shared_memory_per_block"),
        shared_memory_per_block_optin=number("shared_memory_per_block_optin"),
        shared_memory_per_multiprocessor=number("shared_memory_per_multiprocessor"),
        regs_per_multiprocessor=number("regs_per_multiprocessor"),
        L2_cache_size=number("L2_cache_size"),
        clock_rate=number("clock_rate"),
        memory_clock_rate=number("memory_clock_rate"),
        memory_bus_width=number("memory_bus_width"),
        uuid=uuid if isinstance(uuid, UUID) else UUID(int=device),
        pci_bus_id=number("pci_bus_id"),
    )
