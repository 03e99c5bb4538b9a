"""The Python half of a stand-in plugin: what `import torch_<vendor>` does, and torch.<device>.

It is copied into the package that a test makes, and reads that vendor's names beside it.
"""

import json
import os
import sys
import types
from pathlib import Path

import torch
import torch.distributed as dist

from . import _C

_HERE = Path(__file__).parent
VENDOR = json.loads((_HERE / "vendor.json").read_text())
DEVICE = VENDOR["device"]
_count = 0


def _visible_count():
    total = int(os.environ.get("STANDIN_DEVICES", "2"))
    listed = os.environ.get(VENDOR["visible"] or "", None)
    if listed is None:
        return total
    return len([word for word in listed.split(",") if word.strip().isdigit() and int(word) < total])


def _index(device=None):
    if device is None:
        return current_device()
    if isinstance(device, int):
        return device
    made = torch.device(device)
    if made.type != DEVICE:
        raise ValueError(f"Expected a {DEVICE} device, but got: {device}")
    return current_device() if made.index is None else made.index


def device_count():
    return _count


def is_available():
    return _count > 0


def is_initialized():
    return True


def init():
    pass


def current_device():
    return _C.current_device()


def set_device(device):
    _C.set_device(_index(device))


def synchronize(device=None):
    _C.synchronize(_index(device))


class Stream(torch.Stream):
    def __new__(cls, device=None, priority=0, **words):
        if "stream_id" in words:
            return super().__new__(cls, **words)
        return super().__new__(cls, torch.device(DEVICE, _index(device)), priority=priority)

    def __getattr__(self, name):
        if name == f"{DEVICE}_stream":
            return self.stream_id
        raise AttributeError(name)

    def record_event(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        event.wait(self)

    def wait_stream(self, stream):
        self.wait_event(stream.record_event())


class ExternalStream(Stream):
    pass


class Event:
    def __init__(self, enable_timing=False, blocking=False, interprocess=False, external=False):
        self._event = torch.Event(DEVICE, enable_timing=enable_timing, blocking=blocking)

    def record(self, stream=None):
        self._event.record(current_stream() if stream is None else stream)

    def wait(self, stream=None):
        self._event.wait(current_stream() if stream is None else stream)

    def query(self):
        return self._event.query()

    def synchronize(self):
        self._event.synchronize()

    def elapsed_time(self, end):
        return self._event.elapsed_time(end._event)


def _stream_of(number, index):
    return Stream(stream_id=number, device_index=index, device_type=_C.device_type())


def current_stream(device=None):
    index = _index(device)
    return _stream_of(_C.current_stream(index), index)


def default_stream(device=None):
    return _stream_of(0, _index(device))


def set_stream(stream):
    if stream is not None:
        _C.set_stream(stream.device_index, stream.stream_id)


class StreamContext:
    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        if self.stream is None:
            return
        self._device = current_device()
        set_device(self.stream.device_index)
        self._before = current_stream()
        set_stream(self.stream)

    def __exit__(self, *_):
        if self.stream is None:
            return
        set_stream(self._before)
        set_device(self._device)


def stream(stream):
    return StreamContext(stream)


class device:
    def __init__(self, device):
        self.idx = _index(device) if device is not None else -1

    def __enter__(self):
        self.prev_idx = current_device()
        if self.idx >= 0:
            set_device(self.idx)

    def __exit__(self, *_):
        set_device(self.prev_idx)
        return False


class device_of(device):
    def __init__(self, tensor):
        super().__init__(tensor.device.index if tensor.device.type == DEVICE else None)


# Memory.


def memory_stats(device=None):
    found = {}
    for name, counts in _C.memory_stats(_index(device)).items():
        for key, value in counts.items():
            found[f"{name}.all.{key}"] = value
    return found


def _statistic(key):
    def read(device=None):
        return memory_stats(device).get(key, 0)

    return read


memory_allocated = _statistic("allocated_bytes.all.current")
max_memory_allocated = _statistic("allocated_bytes.all.peak")
memory_reserved = memory_cached = _statistic("reserved_bytes.all.current")
max_memory_reserved = max_memory_cached = _statistic("reserved_bytes.all.peak")


def reset_peak_memory_stats(device=None):
    _C.reset_peak(_index(device))


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def reset_accumulated_memory_stats(device=None):
    _C.reset_accumulated(_index(device))


def empty_cache():
    _C.empty_cache()


def mem_get_info(device=None):
    return _C.memory_info(_index(device))


def memory_summary(device=None, abbreviated=False):
    return "\n".join(f"{name} {value}" for name, value in memory_stats(device).items())


def memory_snapshot():
    return []


def ipc_collect():
    pass


def set_per_process_memory_fraction(fraction, device=None):
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")


OutOfMemoryError = torch.OutOfMemoryError


# Random numbers.


def _generator(device=None):
    return _C.default_generator(_index(device))


def manual_seed(seed):
    _generator().manual_seed(int(seed))


def manual_seed_all(seed):
    for index in range(device_count()):
        _generator(index).manual_seed(int(seed))


def seed():
    return _generator().seed()


def seed_all():
    first = _generator(0).seed()
    manual_seed_all(first)


def initial_seed():
    return _generator().initial_seed()


def get_rng_state(device=None):
    return _generator(device).get_state()


def set_rng_state(state, device=None):
    _generator(device).set_state(state)


def get_rng_state_all():
    return [get_rng_state(index) for index in range(device_count())]


def set_rng_state_all(states):
    for index, state in enumerate(states):
        set_rng_state(state, index)


class _DefaultGenerators:
    def __getitem__(self, index):
        if not 0 <= index < device_count():
            raise IndexError(index)
        return _generator(index)

    def __len__(self):
        return device_count()


default_generators = _DefaultGenerators()


# Properties.


class _Properties(types.SimpleNamespace):
    pass


def get_device_properties(device=None):
    return _Properties(
        name=get_device_name(device), total_memory=mem_get_info(device)[1], multi_processor_count=24
    )


def get_device_name(device=None):
    _index(device)
    return f"stand-in for {VENDOR['plugin']}"


def get_device_capability(device=None):
    return None if DEVICE == "npu" else (5, 0)


def get_amp_supported_dtype():
    return [torch.float16, torch.bfloat16]


def is_bf16_supported():
    return True


def can_device_access_peer(device, peer):
    return device != peer


def _is_in_bad_fork():
    return False


def _lazy_init():
    pass


def _lazy_call(call, **_):
    call()


def start(package):
    """Registers the device under the vendor's name and puts torch.<device> in its place."""
    global _count
    _count = _visible_count()
    memory = int(os.environ.get("STANDIN_MEMORY", str(8 * 2**30)))
    torch.utils.rename_privateuse1_backend(DEVICE)
    _C.start(_count, memory)
    derivatives = [*VENDOR["overridden"], *_composite(VENDOR["operators"])]
    operators = sorted({*VENDOR["operators"], *VENDOR["overridden"]} - _aliases(VENDOR["operators"]))
    _C.register_kernels(operators, sorted(set(derivatives)))
    module = types.ModuleType(f"{package}.{DEVICE}")
    here = globals()
    for name in [*VENDOR["names"], "_is_in_bad_fork", "_lazy_init", "_lazy_call"]:
        if name in here:
            setattr(module, name, here[name])
    module.standin = _C
    sys.modules[module.__name__] = module
    torch._register_device_module(DEVICE, module)
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    if dist.is_available():
        _register_process_group()
    return module


def _schema(name):
    base, _, overload = name.partition(".")
    try:
        return torch._C._get_schema(f"aten::{base}", overload)
    except RuntimeError:
        return None


def _aliases(names):
    """Composite operators that give views: nothing overrides these."""
    found = set()
    for name in names:
        schema = _schema(name)
        composite = (
            torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "CompositeImplicitAutograd")
            if schema is not None
            else False
        )
        views = schema is not None and any(r.alias_info and not r.alias_info.is_write for r in schema.returns)
        if composite and views:
            found.add(name)
    return found


def _composite(names):
    """Operators of the list that torch would compose of others, and that return tensors of their own."""
    found = []
    for name in names:
        schema = _schema(name)
        if schema is None or any(argument.alias_info for argument in schema.arguments):
            continue
        tensors = any("Tensor" in str(result.type) for result in schema.returns)
        key = "CompositeImplicitAutograd"
        if tensors and torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", key):
            found.append(name)
    return found


def _register_process_group():
    def create(store, rank, size, timeout):
        inner = dist.ProcessGroupGloo(dist.PrefixStore("standin", store), rank, size, timeout=timeout)
        return _C.make_process_group(inner, VENDOR["collective"], set(VENDOR["missing"]))

    dist.Backend.register_backend(VENDOR["collective"], create, devices=[DEVICE])
