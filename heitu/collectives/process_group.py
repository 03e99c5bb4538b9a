"""Supplies ProcessGroupNCCL to torch.distributed; the group itself is the core's (csrc/process_group_nccl.h).

A CUDA build has the class in `torch._C._distributed_c10d`, which `torch._C._c10d_init` fills. That call is
wrapped, so that torch.distributed finds the class on its import and makes groups of it by its own code.
"""

from __future__ import annotations

import atexit
import copy
import os
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any

from heitu.device.activation import device_uuid, visible_indices

DEFAULT_TIMEOUT = timedelta(minutes=10)
UNDEFINED = -(2**31)  # NCCL_CONFIG_UNDEF_INT
# What NCCL sets in ncclConfig_t, as torch names the fields.
CONFIG_FIELDS = (
    "blocking", "cga_cluster_size", "min_ctas", "max_ctas", "split_share",
    "traffic_class", "collnet_enable", "cta_policy", "nvls_ctas",
)  # fmt: skip


class NCCLConfig:
    """The fields of ncclConfig_t. They are kept, copied and have no effect on emulated devices."""

    def __init__(self) -> None:
        for field in CONFIG_FIELDS:
            setattr(self, field, UNDEFINED)
        self.net_name: str | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in (*CONFIG_FIELDS, "net_name"):
            raise AttributeError(f"ncclConfig_t has no field {name!r}")
        super().__setattr__(name, value)


def install(torch_c: ModuleType, core: ModuleType) -> None:
    """Has `torch._C._c10d_init` supply the nccl process group as well."""
    original: Callable[[], bool] | None = getattr(torch_c, "_c10d_init", None)
    if original is None:  # torch built without distributed
        return

    def c10d_init() -> bool:
        ready = original()
        if ready:
            _supply(torch_c._distributed_c10d, core)
        return ready

    torch_c._c10d_init = c10d_init  # type: ignore[attr-defined]


def _supply(c10d: Any, core: Any) -> None:
    if hasattr(c10d, "ProcessGroupNCCL"):
        return
    gpus = [(device_uuid(index), pci_bus_id(index)) for index in visible_indices()]
    core.bind_nccl(c10d.Work, c10d.Backend, gpus, lambda *arguments: _open_gloo(c10d, *arguments))
    group = core.ProcessGroupNCCL
    _complete_work(core.WorkNCCL, c10d.Work)
    _complete_group(group, core, options_class(c10d.Backend.Options))
    c10d._DEFAULT_PG_NCCL_TIMEOUT = DEFAULT_TIMEOUT
    c10d.ProcessGroupNCCL = group
    process = os.getpid()
    # A forked child has none of the threads, and perhaps a lock that one of them held.
    atexit.register(lambda: core.keep_ended_collectives() if os.getpid() == process else None)


def pci_bus_id(index: int) -> int:
    """PCI bus id of a device as NCCL prints it, domain 0 and function 0: device 0 is 1000 in hexadecimal."""
    return (index + 1) << 12


def _open_gloo(c10d: Any, store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    """A gloo backend that connects two ranks when they first talk, since NCCL needs not all for that."""
    gloo = c10d.ProcessGroupGloo
    interfaces = os.environ.get("GLOO_SOCKET_IFNAME") or os.environ.get("NCCL_SOCKET_IFNAME") or ""
    names = [name for name in interfaces.split(",") if name and name[0] not in "^="]
    options = gloo._Options()
    try:
        options._devices = [gloo.create_device(interface=name, lazy_init=True) for name in names] or [
            gloo.create_default_device(lazy_init=True)
        ]
    except TypeError:  # before lazy_init
        options._devices = [gloo.create_device(interface=name) for name in names] or [
            gloo.create_default_device()
        ]
    options._threads = 2
    options._timeout = timeout
    return gloo(c10d.PrefixStore("gloo", store), rank, size, options)


def options_class(base: type[Any]) -> type[Any]:
    class Options(base):  # type: ignore[misc]
        """Options of the nccl process group.

        Args:
            is_high_priority_stream: kept, and without effect.
        """

        def __init__(self, is_high_priority_stream: bool = False) -> None:
            super().__init__("nccl", DEFAULT_TIMEOUT)
            self.is_high_priority_stream = is_high_priority_stream
            self.config = NCCLConfig()
            self.split_from: Any = None
            self.split_color = 0

        def __copy__(self) -> Options:
            return self._copied(self.config)

        def __deepcopy__(self, memo: dict[int, Any]) -> Options:
            return self._copied(copy.copy(self.config))

        def _copied(self, config: NCCLConfig) -> Options:
            made = Options(self.is_high_priority_stream)
            for field in ("_timeout", "global_ranks_in_group", "group_name", "group_desc"):
                if hasattr(self, field):
                    setattr(made, field, getattr(self, field))
            made.config, made.split_from, made.split_color = config, self.split_from, self.split_color
            return made

    Options.__qualname__ = "ProcessGroupNCCL.Options"
    return Options


def _complete_work(work: Any, base: Any) -> None:
    def get_future(self: Any) -> Any:
        """The future of the output tensors, complete.

        NCCL's is complete as soon as the collective is launched, so that callbacks run in the order of the
        program, the same on all ranks. Here that order is kept by waiting for the collective.
        """
        self._settle()
        return base.get_future(self)

    work.get_future = get_future


def _complete_group(group: Any, core: Any, options_class: type[Any]) -> None:
    bound_init = group.__init__

    def initialise(
        self: Any, store: Any, rank: int, size: int, options: Any = None, *, timeout: timedelta | None = None
    ) -> None:
        if options is None or isinstance(options, timedelta):
            limit = timeout if options is None else options
            options = options_class()
            options._timeout = DEFAULT_TIMEOUT if limit is None else limit
        bound_init(self, store, rank, size, options)

    def bound_device_id(self: Any) -> Any:
        import torch

        index = self._bound_device()
        return None if index is None else torch.device("cuda", index)

    def bind_device(self: Any, device: Any) -> None:
        import torch

        self._bind_device(None if device is None else torch.device(device).index)

    def set_default_timeout(self: Any, timeout: timedelta) -> None:
        self.options._timeout = timeout

    def verify_work_timeout(self: Any, work: Any, timeout: timedelta) -> bool:
        return bool(work._timeout == timeout)

    def nothing(self: Any, *_: Any, **__: Any) -> None:
        """NCCL's own resources; there are none here."""

    group.__init__ = initialise
    group.bound_device_id = property(bound_device_id, bind_device)
    group._set_default_timeout = group.set_timeout = set_default_timeout
    group._add_ephemeral_timeout = group._extend_timeout
    group._verify_work_timeout = verify_work_timeout
    group.abort, group.shutdown = group._abort, group._shutdown
    for name in (
        "_group_start",
        "_group_end",
        "perform_nocolor_split",
        "register_mem_pool",
        "deregister_mem_pool",
    ):
        setattr(group, name, nothing)
    version = staticmethod(lambda: core.nccl_version)
    group.get_build_nccl_version = group.get_runtime_nccl_version = version
    group.NCCL_CTA_POLICY_DEFAULT, group.NCCL_CTA_POLICY_EFFICIENCY, group.NCCL_CTA_POLICY_ZERO = 0, 1, 2
    group.NCCLConfig, group.Options = NCCLConfig, options_class
