"""Streams and events: the bases that torch.cuda.Stream and torch.cuda.Event are built on."""

from __future__ import annotations

import struct
import sys
from typing import Any

CUDA = 1  # c10::DeviceType::CUDA
GREATEST_PRIORITY = -3
_EVENT_HANDLE = struct.Struct("<qqQq")  # process, descriptor, inode, index


def install(torch_c: Any, core: Any) -> None:
    """Supplies _CudaStreamBase, _CudaEventBase and the functions about the current stream."""
    base_stream: Any = torch_c.Stream
    base_event: Any = torch_c.Event

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
                stream_id, device_index = stream_ptr, core.current_device()
            elif not (stream_id or device_index or device_type):
                stream_id, device_index, _ = core.pool_stream(core.current_device(), priority)
            return base_stream.__new__(cls, stream_id=stream_id, device_index=device_index, device_type=CUDA)

        @property
        def cuda_stream(self) -> int:
            return int(self.stream_id)

        @property
        def priority(self) -> int:
            return int(core.stream_priority(self.stream_id, self.device_index))

        @staticmethod
        def priority_range() -> tuple[int, int]:
            return 0, GREATEST_PRIORITY

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
            event = base_event.__new__(
                cls, device="cuda", enable_timing=enable_timing, blocking=blocking, interprocess=interprocess
            )
            # The methods of torch.Event refuse subclasses written in Python, so the state is our own.
            event._state = core.SharedEvent(-1) if interprocess else core.Event()
            event._timed = enable_timing
            event._interprocess = interprocess
            return event

        @property
        def device(self) -> Any:
            return sys.modules["torch"].device("cuda", self._state.device) if self._state.recorded else None

        @property
        def cuda_event(self) -> int:
            return id(self._state) if self._state.recorded else 0

        event_id = cuda_event

        def record(self, stream: Any = None) -> None:
            stream_id, device = self._stream(stream)
            if self._state.recorded and self._state.device != device:
                raise RuntimeError(
                    f"Event device {self._state.device} does not match recording stream's device {device}."
                )
            self._state.record(stream_id, device)

        def wait(self, stream: Any = None) -> None:
            if self._state.recorded:
                self._state.wait(*self._stream(stream))

        def query(self) -> bool:
            return bool(self._state.query())

        def synchronize(self) -> None:
            self._state.synchronize()

        def elapsed_time(self, end_event: Any) -> float:
            if not (self._timed and end_event._timed):
                raise ValueError("Both events must be created with argument 'enable_timing=True'.")
            return float(self._state.elapsed_ms(end_event._state))

        def ipc_handle(self) -> bytes:
            if not self._interprocess:
                raise RuntimeError(
                    "CUDA error: invalid argument: the event was not made with interprocess=True"
                )
            return _EVENT_HANDLE.pack(*self._state.handle)

        @classmethod
        def from_ipc_handle(cls, device: Any, handle: bytes) -> Any:
            torch: Any = sys.modules["torch"]
            event = cls(interprocess=True)
            index = torch.cuda._utils._get_device_index(device, optional=True)
            event._state = core.SharedEvent(_EVENT_HANDLE.unpack(handle), index)
            return event

        @staticmethod
        def _stream(stream: Any) -> tuple[int, int]:
            if stream is None:
                stream_id, device, _ = core.current_stream(-1)
                return stream_id, device
            return stream.stream_id, stream.device_index

    for cls in (_CudaStreamBase, _CudaEventBase):
        cls.__module__ = "torch._C"
        cls.__qualname__ = cls.__name__
    torch_c._CudaStreamBase = _CudaStreamBase
    torch_c._CudaEventBase = _CudaEventBase
    torch_c._cuda_getCurrentStream = core.current_stream
    torch_c._cuda_getCurrentRawStream = lambda device: core.current_stream(device)[0]
    torch_c._cuda_getDefaultStream = lambda device: (
        0,
        core.current_device() if device < 0 else device,
        CUDA,
    )
    torch_c._cuda_getStreamFromExternal = lambda pointer, device: (pointer, device, CUDA)
    torch_c._cuda_setStream = lambda stream_id, device_index, device_type: core.set_stream(
        stream_id, device_index
    )
