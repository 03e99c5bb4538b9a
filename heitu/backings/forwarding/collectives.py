"""Supplies ProcessGroupNCCL to torch.distributed: the plugin's own process group, for cuda tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any

from heitu.collectives.process_group import DEFAULT_TIMEOUT, options_class


def install(torch_c: Any, core: Any, collectives: str) -> None:
    """Has `torch._C._c10d_init` supply the nccl process group as well.

    Args:
        collectives: the plugin's backend of torch.distributed: hccl.
    """
    original: Callable[[], bool] | None = getattr(torch_c, "_c10d_init", None)
    if original is None:  # torch built without distributed
        return

    def c10d_init() -> bool:
        ready = original()
        if ready and not hasattr(torch_c._distributed_c10d, "ProcessGroupNCCL"):
            _supply(torch_c._distributed_c10d, core, collectives)
        return ready

    torch_c._c10d_init = c10d_init


def _supply(c10d: Any, core: Any, collectives: str) -> None:
    core.bind_process_group(c10d.Work, c10d.Backend)
    group = core.ProcessGroupNCCL
    options_type = options_class(c10d.Backend.Options)
    bound_init = group.__init__

    def initialise(
        self: Any, store: Any, rank: int, size: int, options: Any = None, *, timeout: timedelta | None = None
    ) -> None:
        if options is None or isinstance(options, timedelta):
            limit = timeout if options is None else options
            options = options_type()
            options._timeout = DEFAULT_TIMEOUT if limit is None else limit
        bound_init(self, _open(c10d, collectives, store, rank, size, options), options)

    def set_default_timeout(self: Any, timeout: timedelta) -> None:
        self.options._timeout = timeout
        self._plugin._set_default_timeout(timeout)

    group.__init__ = initialise
    group._set_default_timeout = group.set_timeout = set_default_timeout
    group.Options = options_type
    c10d._DEFAULT_PG_NCCL_TIMEOUT = DEFAULT_TIMEOUT
    c10d.ProcessGroupNCCL = group


def _open(c10d: Any, collectives: str, store: Any, rank: int, size: int, options: Any) -> Any:
    """A process group as the plugin makes one for torch.distributed.

    Raises:
        RuntimeError: the plugin has registered no such backend.
    """
    distributed: ModuleType = sys.modules["torch.distributed.distributed_c10d"]
    plugins: dict[str, Any] = distributed.Backend._plugins
    found = plugins.get(collectives.upper())
    if found is None:
        known = ", ".join(sorted(plugins)) or "none"
        raise RuntimeError(
            f"The vendor's plugin has registered no {collectives} backend with torch.distributed "
            f"(there: {known}), which nccl stands for on this chip."
        )
    store = c10d.PrefixStore(collectives, store)
    if not found.extended_api:
        return found.creator_fn(store, rank, size, options._timeout)
    described = distributed._DistributedBackendOptions()
    described.store = store
    described.group_rank = rank
    described.group_size = size
    described.timeout = options._timeout
    described.group_id = getattr(options, "group_name", "") or ""
    described.global_ranks_in_group = getattr(options, "global_ranks_in_group", []) or []
    return found.creator_fn(described, None)
