"""What to change in the program, in order of worth."""

from __future__ import annotations

import re
from collections.abc import Iterable

from heitu.chips import Chip
from heitu.rehearsal.record import Place
from heitu.rehearsal.report import Advice, Memory, OperatorRow
from heitu.rehearsal.wording import share, size

ORDER = ("refused", "memory", "fallback", "narrowed", "stated_no", "emulated", "unknown")

_INSTEAD = {
    "float64": "float32",
    "complex128": "complex64",
    "complex64": "float32, real and imaginary parts apart",
    "complex32": "complex64",
    "bfloat16": "float16, or float32",
    "float16": "bfloat16, or float32",
    "float8_e4m3fn": "bfloat16",
    "float8_e5m2": "bfloat16",
    "int64": "int32",
    "int16": "int32",
    "int8": "int32",
    "uint8": "int32",
    "bool": "uint8",
    "uint64": "int64",
    "uint32": "int64",
    "uint16": "int32",
}

# What serves in an operator's place, where that is a known turn. The names are patterns of whole names.
_REPLACED_BY = (
    (r"_fused_(adam|adamw|sgd|adagrad)", "construct the optimizer with fused=False"),
    (r"_foreach_\w+|_amp_foreach\w+", "construct the optimizer with foreach=False"),
    (r"_scaled_dot_product_\w+", "choose SDPBackend.MATH with torch.nn.attention.sdpa_kernel"),
    (r"_transformer_encoder_layer_fwd", "call torch.backends.mha.set_fastpath_enabled(False)"),
    (r"_embedding_bag\w*", "take nn.Embedding and a sum or mean over the bag"),
    (r"isin", "compare by broadcasting: (x.unsqueeze(-1) == values).any(-1)"),
    (r"huber_loss\w*", "take smooth_l1_loss with beta=delta, times delta"),
    (r"_?logcumsumexp", "take cumsum of exp(x - x.max()), its logarithm, and add the maximum again"),
    (r"cumprod", "take exp of the cumsum of the logarithms where all is positive"),
    (r"_?linalg_\w+", "solve it on the host, outside of the loop"),
    (r"histc|bincount", "count with scatter_add_ on a tensor of zeros"),
    (r"(std|var)(_mean)?", "compute it from means: (x - x.mean()).square().mean()"),
)


def advise(
    rows: Iterable[OperatorRow],
    chip: Chip,
    memory: Memory,
    out_of_memory: bool,
    of_kernels: Iterable[Advice] = (),
) -> tuple[Advice, ...]:
    """One piece of advice for each operator and reason, and those of kernels, the most worthwhile first."""
    together: dict[tuple[str, str, str], list[OperatorRow]] = {}
    for row in rows:
        what = _what(row)
        if what:
            together.setdefault((what, _subject(row), row.reason), []).append(row)
    found = [_of(what, subject, rows, chip) for (what, subject, _), rows in together.items()]
    found += [*of_kernels, *_of_memory(chip, memory, out_of_memory)]
    return tuple(
        sorted(found, key=lambda one: (ORDER.index(one.verdict), -(one.seconds or 0), -one.bytes, -one.calls))
    )


def _what(row: OperatorRow) -> str:
    if row.verdict != "native":
        return row.verdict
    return row.dtype_verdict if row.dtype_verdict in ORDER else ""


def _subject(row: OperatorRow) -> str:
    about_dtype = row.why == "dtype" or row.dtype_verdict is not None
    named = [dtype for dtype in row.dtypes if dtype in row.reason] if about_dtype else []
    return " ".join([row.operator, *named])


def _of(what: str, subject: str, rows: list[OperatorRow], chip: Chip) -> Advice:
    places: dict[Place, int] = {}
    for caller in (caller for row in rows for caller in row.places):
        place = caller.user or caller.site
        if place is not None:
            places[place] = places.get(place, 0) + caller.calls
    ordered = sorted(places, key=lambda place: -places[place])
    bytes_copied = sum(row.bytes_in + row.bytes_out for row in rows) if what == "fallback" else 0
    spans = [row.seconds.likely for row in rows if row.seconds is not None]
    return Advice(
        verdict=what,
        subject=subject,
        reason=rows[0].reason,
        message=rows[0].message,
        suggestion=_suggestion(what, rows[0], chip),
        calls=sum(row.calls + row.replays for row in rows),
        bytes=bytes_copied,
        seconds=sum(spans) if spans and what == "fallback" else None,
        place=ordered[0] if ordered else None,
        more_places=max(0, len(ordered) - 1),
    )


def _suggestion(what: str, row: OperatorRow, chip: Chip) -> str:
    dtype = next((dtype for dtype in row.dtypes if dtype in row.reason and dtype in _INSTEAD), "")
    if dtype and (row.why == "dtype" or row.dtype_verdict is not None):
        if what == "narrowed":
            return f"say {_INSTEAD[dtype]} yourself, and see that its precision is enough"
        return f"compute in {_INSTEAD[dtype]}"
    name = row.operator.partition("::")[2].partition(".")[0].rstrip("_").removesuffix("_backward")
    instead = next((text for pattern, text in _REPLACED_BY if re.fullmatch(pattern, name)), "")
    if what == "unknown":
        return "try it on the chip: nothing is published of it"
    if what == "fallback":
        return (
            f"{instead}; or accept the copies"
            if instead
            else "replace it by operators the chip has, or accept the copies"
        )
    return instead or "replace it by operators the chip has, or compute this part on the CPU"


def _of_memory(chip: Chip, memory: Memory, out_of_memory: bool) -> list[Advice]:
    used = memory.peak_reserved / memory.capacity if memory.capacity else 0.0
    if not out_of_memory and used < 0.9:
        return []
    state = "the program ran out of memory" if out_of_memory else f"the peak takes {share(used)} of it"
    return [
        Advice(
            verdict="memory",
            subject=f"memory of {size(memory.capacity)}",
            reason=f"{state}: {size(memory.peak_allocated)} allocated, {size(memory.peak_reserved)} reserved",
            message="",
            suggestion="take a smaller batch, activation checkpointing, or shard the model",
            calls=0,
            bytes=0,
            seconds=None,
            place=None,
            more_places=0,
        )
    ]
