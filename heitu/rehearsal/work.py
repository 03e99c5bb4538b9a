"""The work in one call of an operator, from its name, the shapes of its tensors and the bytes of its results.

Floating-point operations are counted for matrix products, attention, convolutions and recurrent layers, a
multiplication and an addition as two. Every other operator is taken to be bound by memory: its bytes count.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from heitu.rehearsal.record import TensorArgument

Shape = tuple[int, ...]

ITEM_BYTES = {
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    "complex128": 16,
}  # the others take one


class Kind(str, enum.Enum):
    """What an operator mostly does, which decides the rate that it is held against."""

    PRODUCTS = "matrix products"
    ATTENTION = "attention"
    CONVOLUTION = "convolution"
    MEMORY = "elementwise, reductions, copies"
    COMMUNICATION = "communication"
    FALLBACK = "host fallback"
    OTHER = "operators of other packages"


@dataclass(frozen=True)
class Work:
    """One call's work.

    Attributes:
        kind: which rate it is held against.
        dtype: of what is multiplied; of the first argument where nothing is.
        flops: None where there are some and the record does not say how many.
        bytes: read from and written to the device's memory.
    """

    kind: Kind
    dtype: str
    flops: float | None
    bytes: float


def work(operator: str, args: tuple[TensorArgument, ...], bytes_in: float, bytes_out: float) -> Work:
    """The work in one call.

    Args:
        operator: the overload ("aten::mm", "aten::add.out").
        args: its tensors, in the order of its schema.
        bytes_in: of the tensors given, per call.
        bytes_out: of the results, per call.
    """
    namespace, _, overload = operator.partition("::")
    name = overload.partition(".")[0].rstrip("_")
    if namespace in ("c10d", "_c10d_functional"):
        # What n ranks reduce and all of them get goes over each link 2 (n - 1) / n times.
        times = 2 if name.startswith(("allreduce", "all_reduce")) else 1
        return Work(Kind.COMMUNICATION, _dtype(args, 0), 0.0, times * bytes_in)
    if namespace != "aten":
        return Work(Kind.OTHER, _dtype(args, 0), 0.0, bytes_in + bytes_out)
    kind, counted, first = _formula(name)
    if counted is None:
        return Work(kind, _dtype(args, 0), 0.0, _moved(name, args, bytes_in, bytes_out))
    moved = bytes_in + bytes_out
    shapes = [arg.shape for arg in args if arg.shape is not None]
    if len(shapes) < len(args):
        return Work(kind, _dtype(args, first), None, moved)
    item = ITEM_BYTES.get(_dtype(args, first), 1)
    try:
        flops = float(counted(shapes, bytes_out / item))
    except (IndexError, ValueError, ZeroDivisionError):
        return Work(kind, _dtype(args, first), None, moved)
    # A complex product is four real ones, and its sums are two.
    return Work(kind, _dtype(args, first), flops * 4 if "complex" in _dtype(args, first) else flops, moved)


def _dtype(args: tuple[TensorArgument, ...], first: int) -> str:
    return args[min(first, len(args) - 1)].dtype if args else ""


_Count = Callable[[list[Shape], float], float]  # shapes of the arguments, elements of the results


def _formula(name: str) -> tuple[Kind, _Count | None, int]:
    """The kind, how to count, and which argument has the dtype that is computed in."""
    if name in _PRODUCTS:
        return Kind.PRODUCTS, *_PRODUCTS[name]
    if "attention" in name and "multi_head" not in name:
        backward = name.endswith("_backward")
        layout = _rows_second if re.match(r"_(flash|efficient)_attention", name) else _rows_third
        return Kind.ATTENTION, lambda s, _: _attention(s, backward, layout), 0
    if re.fullmatch(r"(convolution|_slow_conv2d|slow_conv\w*)_backward\w*", name):
        return Kind.CONVOLUTION, _convolution_backward, 1
    if re.search(r"conv(olution|\dd)?(_|\d|$)", name) and "backward" not in name and "conv_tbc" not in name:
        transposed = "transpose" in name
        return Kind.CONVOLUTION, lambda s, out: _convolution(s, out, transposed), 0
    if re.fullmatch(r"(lstm|gru|rnn_tanh|rnn_relu|_cudnn_rnn|mkldnn_rnn_layer|miopen_rnn)(_backward)?", name):
        times = 2 if name.endswith("_backward") else 1
        return Kind.PRODUCTS, lambda s, _: times * _recurrent(s), 0
    return Kind.MEMORY, None, 0


def _mm(a: Shape, b: Shape) -> float:
    """Batches of matrices, in the shapes of torch.matmul: [..., m, k] by [..., k, n], vectors too."""
    if len(b) == 1:
        return 2.0 * prod(a)
    if len(a) == 1:
        return 2.0 * prod(b)
    batch = max(prod(a[:-2]), prod(b[:-2]))
    return 2.0 * batch * a[-2] * a[-1] * b[-1]


def _grouped(a: Shape, b: Shape) -> float:
    """Groups of rows, of columns, or of matrices: each row of `a` meets one of the groups."""
    if len(a) == 3 and len(b) == 3:
        return _mm(a, b)
    return 2.0 * prod(a) * b[-1]


def _pair(first: int, times: int = 1, count: Callable[[Shape, Shape], float] = _mm) -> tuple[_Count, int]:
    """Multiplies the arguments `first` and the one after it."""
    return lambda shapes, _: times * count(shapes[first], shapes[first + 1]), first


_PRODUCTS: dict[str, tuple[_Count, int]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "matmul", "_int_mm", "chain_matmul"), _pair(0)),
    **dict.fromkeys(("_scaled_mm", "_scaled_mm_v2"), _pair(0)),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv", "_addmm_activation"), _pair(1)),
    **dict.fromkeys(("_grouped_mm", "_scaled_grouped_mm", "_scaled_grouped_mm_v2"), _pair(0, count=_grouped)),
    # [..., k] by [n, k], as linear has its weight.
    "linear": (lambda s, _: 2.0 * prod(s[0]) * prod(s[1][:-1]), 0),
    "linear_backward": (lambda s, _: 4.0 * prod(s[0]) * s[2][0], 0),
    "matmul_backward": _pair(1, times=2),
    "_weight_int8pack_mm": (lambda s, _: 2.0 * prod(s[0]) * s[1][0], 0),
    "_weight_int4pack_mm": (lambda s, out: 2.0 * out * s[0][-1], 0),
}


def _rows_third(shape: Shape) -> tuple[int, int, int, int]:
    """[batch, heads, rows, width]."""
    batch, heads, rows, width = shape if len(shape) == 4 else (1, *shape)
    return batch, heads, rows, width


def _rows_second(shape: Shape) -> tuple[int, int, int, int]:
    """[batch, rows, heads, width]."""
    batch, rows, heads, width = shape
    return batch, heads, rows, width


def _attention(
    shapes: list[Shape], backward: bool, layout: Callable[[Shape], tuple[int, int, int, int]]
) -> float:
    """Two products forward (scores, values) and five backward; what a causal mask spares is counted too.

    Sequences laid end to end ([tokens, heads, width], then their offsets) are taken to be of one length.
    """
    query, key, value = shapes[backward : backward + 3]
    if layout is _rows_second and len(query) == 3:
        sequences = next(shape[0] for shape in shapes[backward + 3 :] if len(shape) == 1) - 1
        batch, heads, rows, width = 1, query[1], query[0], query[2]
        columns, value_width = key[0] / sequences, value[2]
    else:
        batch, heads, rows, width = layout(query)
        columns, value_width = layout(key)[2], layout(value)[3]
    widths = 3 * width + 2 * value_width if backward else width + value_width
    return 2.0 * batch * heads * rows * columns * widths


def _transposed(data: Shape, weight: Shape, result_elements: float) -> bool:
    """Whether a convolution is a transposed one; where the shapes allow both, the results' size decides.

    The weight is [out, in / groups, ...], or [in, out / groups, ...] in a transposed one.
    """
    channels = data[1]
    if weight[0] != channels:
        return False
    if channels % weight[1]:
        return True
    # Both are possible: channels are as many before and after. Only a transposed one makes an image grow, but
    # for padding wider than the kernel; and where the size stays, both have the same work.
    return result_elements > prod(data)


def _convolution(shapes: list[Shape], out: float, transposed: bool) -> float:
    data, weight = shapes[0], shapes[1]
    if transposed or _transposed(data, weight, out):
        return 2.0 * prod(data) * prod(weight[1:])
    return 2.0 * out * prod(weight[1:])


def _convolution_backward(shapes: list[Shape], out: float) -> float:
    """The gradients of data and of weight each cost a forward pass; the results tell which are asked."""
    gradient, data, weight = shapes[0], shapes[1], shapes[2]
    once = _convolution([data, weight], prod(gradient), False)
    bias = gradient[1]
    one = any(round(out) in (prod(asked), prod(asked) + bias) for asked in (data, weight))
    return once if one else 2.0 * once


def _recurrent(shapes: list[Shape]) -> float:
    """Each matrix of weights meets each token once; biases and states are no matrices of two dimensions."""
    tokens = prod(shapes[0][:-1])
    matrices = [shape for shape in shapes[1:] if len(shape) == 2 and shape[0] != tokens]
    if not matrices:
        raise ValueError("no weights among the arguments")
    return 2.0 * tokens * sum(map(prod, matrices))


_FORMS = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "as_strided", "expand", "permute"),
    *("transpose", "t", "numpy_T", "select", "slice", "narrow", "split", "split_with_sizes", "chunk"),
    *("unbind", "squeeze", "unsqueeze", "detach", "alias", "diagonal", "unfold", "movedim"),
    *("view_as_real", "view_as_complex", "resize", "set", "lift_fresh", "real", "imag", "flatten"),
    *("unflatten", "swapaxes", "resolve_conj", "resolve_neg", "_conj", "empty", "empty_like"),
    *("empty_strided", "new_empty", "new_empty_strided", "is_same_size", "is_pinned"),
    *("record_stream",),
}
_WRITE_ONLY = {
    *("fill", "zero", "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "normal"),
    *("uniform", "random", "bernoulli", "exponential", "arange", "rand", "randn", "randint"),
    *("randperm", "eye", "linspace", "native_dropout_mask", "new_zeros", "new_ones", "new_full"),
    *("scalar_tensor",),
}
_READS_WHAT_IT_PICKS = {
    "embedding",
    "index_select",
    "gather",
    "index",
    "take",
    "take_along_dim",
    "masked_select",
}
_CHANGES_A_PART = {
    *("index_put", "_index_put_impl", "scatter", "scatter_add", "index_add", "index_copy"),
    *("index_fill", "masked_scatter"),
}


def _moved(name: str, args: tuple[TensorArgument, ...], bytes_in: float, bytes_out: float) -> float:
    """Bytes that cross the device's memory bus, where they are not all that comes in and goes out."""
    if name in _FORMS:
        return 0.0
    if name in _WRITE_ONLY:
        return bytes_out
    if name == "copy":
        return bytes_in  # the source is read, and what is written has come in as well
    if name.startswith(("_foreach", "_fused")) and not bytes_out:
        return bytes_in * (1 + _part_written(name))
    first = _bytes(args[0]) if args else None
    if first is not None and name in _READS_WHAT_IT_PICKS:
        return max(0.0, bytes_in - first) + 2 * bytes_out
    if first is not None and name in _CHANGES_A_PART:
        return 2 * max(0.0, bytes_in - first)
    return bytes_in + bytes_out


def _part_written(name: str) -> float:
    """Of what operators on lists of tensors are given, the part that they change in place."""
    if name.startswith("_fused"):  # gradients are read only
        return 0.75
    return 1 / 3 if "addc" in name else 1 / 2 if "lerp" in name else 1.0


def _bytes(arg: TensorArgument) -> float | None:
    return None if arg.shape is None else prod(arg.shape) * ITEM_BYTES.get(arg.dtype, 1)
