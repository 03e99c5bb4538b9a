"""Streams and events: the bases that torch.cuda.Stream and torch.cuda.Event are built on."""

from __future__ import annotations

import sys
from typing import Any

from heitu.backings.forwarding.plugin import Plugin
from heitu.device.streams import CUDA


def install(torch_c: Any, core: Any, plugin: Plugin) -> None:
    """Supplies _CudaStreamBase, _CudaEventBase and the functions about the current stream."""
    base_stream: Any = torch_c.Stream
    base_event: Any = torch_c.Event

    def index(device: int) -> int:
        return int(core.current_device()) if device < 0 else device

    class _CudaStreamBase(base_stream):  # type: ignore[misc]
        def __new__(
            cls,
            priority: int = 0,
            stream_id: int = 0,
            device_index: int = 0,
            device_type: int = 0,
            stream_ptr: int = 0,
        ) -> Any:
            if stream_ptr:
                stream_id, device_index = _own_stream(core, plugin, stream_ptr)
            if not (stream_id or device_index or device_type):
                stream_id, device_index = core.new_stream(core.current_device(), priority)
            stream = base_stream.__new__(
                cls, stream_id=stream_id, device_index=device_index, device_type=CUDA
            )
            stream._priority = priority
            return stream

        @property
        def cuda_stream(self) -> int:
            return _handle(core, plugin, self.stream_id, self.device_index)

        @property
        def priority(self) -> int:
            return int(self._priority)

        @staticmethod
        def priority_range() -> tuple[int, int]:
            function = plugin.find("Stream.priority_range")
            lowest, greatest = function() if function is not None else (0, -1)
            return int(lowest), int(greatest)

        def query(self) -> bool:
            return bool(core.stream_idle(self.stream_id, self.device_index))

        def synchronize(self) -> None:
            core.synchronize_stream(self.stream_id, self.device_index)

    class _CudaEventBase(base_event):  # type: ignore[misc]
        def __new__(
            cls,
            enable_timing: bool = False,
            blocking: bool = False,
            interprocess: bool = False,
            external: bool = False,
        ) -> Any:
            if interprocess:
                raise NotImplementedError("Events between processes have no counterpart on this chip.")
            event = base_event.__new__(cls, device="cuda", enable_timing=enable_timing, blocking=blocking)
            # The methods of torch.Event refuse subclasses written in Python, so the state is our own.
            event._state = core.Event(enable_timing)
            event._timed = enable_timing
            return event

        @property
        def device(self) -> Any:
            return sys.modules["torch"].device("cuda", self._state.device) if self._state.recorded else None

        @property
        def cuda_event(self) -> int:
            return id(self._state) if self._state.recorded else 0

        event_id = cuda_event

        def record(self, stream: Any = None) -> None:
            stream_id, device = _place(core, stream)
            if self._state.recorded and self._state.device != device:
                raise RuntimeError(
                    f"Event device {self._state.device} does not match recording stream's device {device}."
                )
            self._state.record(stream_id, device)

        def wait(self, stream: Any = None) -> None:
            if self._state.recorded:
                self._state.wait(*_place(core, stream))

        def query(self) -> bool:
            return bool(self._state.query())

        def synchronize(self) -> None:
            self._state.synchronize()

        def elapsed_time(self, end_event: Any) -> float:
            if not (self._timed and end_event._timed):
                raise ValueError("Both events must be created with argument 'enable_timing=True'.")
            return float(self._state.elapsed_ms(end_event._state))

        def ipc_handle(self) -> bytes:
            raise RuntimeError("CUDA error: invalid argument: the event was not made with interprocess=True")

    for cls in (_CudaStreamBase, _CudaEventBase):
        cls.__module__ = "torch._C"
        cls.__qualname__ = cls.__name__
    torch_c._CudaStreamBase = _CudaStreamBase
    torch_c._CudaEventBase = _CudaEventBase
    torch_c._cuda_getCurrentStream = lambda device: (*core.current_stream(index(device)), CUDA)
    torch_c._cuda_getCurrentRawStream = lambda device: _handle(
        core, plugin, *core.current_stream(index(device))
    )
    torch_c._cuda_getDefaultStream = lambda device: (*core.default_stream(index(device)), CUDA)
    torch_c._cuda_setStream = lambda stream_id, device_index, device_type: core.set_stream(
        stream_id, device_index
    )


def _place(core: Any, stream: Any) -> tuple[int, int]:
    if stream is None:
        stream_id, device = core.current_stream(core.current_device())
        return int(stream_id), int(device)
    return stream.stream_id, stream.device_index


# Streams whose handles a program has seen, by handle: another library may give them back.
_seen: dict[int, tuple[int, int]] = {}


def _own_stream(core: Any, plugin: Plugin, handle: int) -> tuple[int, int]:
    """The stream that the vendor's library knows by `handle`.

    CUDA's reserved numbers mean what they mean there: 1 is the legacy default stream, 2 the thread's own.

    Raises:
        NotImplementedError: it is none of torch's.
    """
    stream_id, index = core.default_stream(core.current_device())
    if handle in (1, 2):
        return int(stream_id), int(index)
    if handle not in _seen:
        raise NotImplementedError(
            f"Stream {handle:#x} is not a stream of torch's on this chip: make one by torch.cuda.Stream()."
        )
    return _seen[handle]


def _handle(core: Any, plugin: Plugin, stream_id: int, device: int) -> int:
    """The vendor's own handle of a stream, for libraries that take one."""
    handle = int(core.stream_handle(stream_id, device))
    stream_class = plugin.find("Stream")
    if not handle and stream_class is not None:
        kind = int(sys.modules["torch"]._C._autograd.DeviceType.PrivateUse1)
        stream = stream_class(stream_id=stream_id, device_index=device, device_type=kind)
        handle = int(getattr(stream, f"{plugin.device}_stream", 0))
    _seen[handle] = (stream_id, device)
    return handle
