"""What an operator does on the cuda device against what it does on the CPU, for one entry of OpInfo.

OpInfo is PyTorch's own database of operators (torch.testing._internal.common_methods_invocations): it
draws arguments and declares, for each kind of device, the dtypes an operator takes. Every check makes its
arguments on the CPU, runs the operator there, runs it on copies of the same layout on the device, and
names what differs.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

from tests.full.opinfo_copies import Copies

MOST_SAMPLES = 200
# For dtypes that only CUDA computes: the CPU computes the same in this one.
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}
# Results that are memory as it was found, or that PyTorch declares to vary from call to call.
UNDEFINED_VALUES = {"empty_strided", "new_empty_strided"}
# Entries whose tensors beyond the first belong on the CPU on every device.
HOST_ARGUMENTS = {"tensor_split"}
# Entries whose kernels lay out results in another way on CUDA than on the CPU: attention's heads come last.
OWN_STRIDES = {"nn.functional.scaled_dot_product_attention"}
# Entries that cast into an out= of another dtype on CUDA alone.
CASTS_OUT = {"histc"}
Samples = list[Any]


def entry_name(op: Any) -> str:
    """The entry's name, unique in the database: "round[decimals_0]"."""
    return f"{op.name}[{op.variant_test_name}]" if op.variant_test_name else str(op.name)


def entries() -> dict[str, Any]:
    """Every entry of the database, by name."""
    named: dict[str, Any] = {}
    for op in op_db:
        name = entry_name(op)
        while name in named:
            name += "'"
        named[name] = op
    return named


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")


def few(samples: Iterator[Any], first: int, later: int) -> Samples:
    """The first samples, and some spread over the rest."""
    taken = list(itertools.islice(samples, MOST_SAMPLES))
    rest = taken[first:]
    step = max(1, -(-len(rest) // later)) if later else len(rest) + 1
    return taken[:first] + rest[step - 1 :: step]


@dataclass
class Outcome:
    """What a call did: its results, or its error."""

    result: Any = None
    error: Exception | None = None
    drew: bool = False  # random numbers
    refused: Exception | None = None  # what the CPU said to the dtype before it computed in a wider one
    arguments: Copies | None = None

    def tensors(self) -> list[Tensor]:
        return [leaf for leaf in pytree.tree_leaves(self.result) if isinstance(leaf, Tensor)]


def attempt(function: Callable[[], Any]) -> Outcome:
    """Runs it from a fixed seed."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with _seeded_inside() as drawn:
        try:
            result, error = function(), None
        except Exception as raised:
            result, error = None, raised
    drew = bool(drawn) or not torch.equal(before, torch.get_rng_state())
    return Outcome(result, error, drew)


@contextlib.contextmanager
def _seeded_inside() -> Iterator[list[bool]]:
    """Notes random numbers drawn by entries that set the seed themselves and put the state back."""
    drawn: list[bool] = []
    original = torch.testing._utils.freeze_rng_state
    torch.manual_seed(42)  # as those entries do
    seeded = torch.get_rng_state()
    torch.manual_seed(0)

    @contextlib.contextmanager
    def noting() -> Iterator[None]:
        with original():
            yield
            if not torch.equal(torch.get_rng_state(), seeded):
                drawn.append(True)

    torch.testing._utils.freeze_rng_state = noting
    try:
        yield drawn
    finally:
        torch.testing._utils.freeze_rng_state = original


def brief(error: BaseException | str) -> str:
    """The first telling line of an error."""
    text = str(error).strip() or type(error).__name__
    line = re.sub(r"0x[0-9a-f]+", "0x…", " ".join(text.split()))
    kind = "" if isinstance(error, str) else f"{type(error).__name__}: "
    return f"{kind}{line}"[:240]


@dataclass
class Comparison:
    """Compares results of the two sides and collects what differs."""

    values: bool = True
    placed: bool = True  # whether the arguments name the device
    strides: bool = True
    narrow: torch.dtype | None = None  # the dtype, where the CPU computed in a wider one
    problems: list[str] = field(default_factory=list)

    def say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def tree(self, host: Any, device: Any) -> None:
        host_leaves, host_form = pytree.tree_flatten(host)
        device_leaves, device_form = pytree.tree_flatten(device)
        if len(host_leaves) != len(device_leaves):
            self.say(f"results: {device_form} instead of {host_form}")
            return
        for one, other in zip(host_leaves, device_leaves, strict=True):
            if isinstance(one, Tensor) and isinstance(other, Tensor):
                self.tensor(one, other)
            elif type(one) is not type(other):
                self.say(f"type: {type(other).__name__} instead of {type(one).__name__}")
            elif isinstance(one, (bool, int, float, complex)) and self.values:
                self._close(torch.tensor(one), torch.tensor(other))
            elif isinstance(one, torch.dtype | torch.Size | str) and one != other and not self.narrow:
                self.say(f"result: {other} instead of {one}")

    def tensor(self, host: Tensor, device: Tensor) -> None:
        if device.device.type != "cuda" and self.placed:
            self.say(f"device: a result is on {device.device}")
        if host.layout != device.layout:
            self.say(f"layout: {device.layout} instead of {host.layout}")
            return
        if host.dtype != device.dtype and not (self.narrow and host.dtype == WIDER.get(device.dtype)):
            self.say(f"dtype: {dtype_name(device.dtype)} instead of {dtype_name(host.dtype)}")
            return
        if not host.is_nested:
            if host.shape != device.shape:
                self.say(f"shape: {tuple(device.shape)} instead of {tuple(host.shape)}")
                return
            if self.strides and host.layout is torch.strided and _strides(host) != _strides(device):
                self.say("strides differ")
        if (host.is_conj(), host.is_neg()) != (device.is_conj(), device.is_neg()):
            self.say("lazy conjugation or negation differs")
        if host.requires_grad != device.requires_grad:
            self.say(f"requires_grad: {device.requires_grad} instead of {host.requires_grad}")
        if self.values:
            self._close(host.detach(), device.detach().cpu())

    def _close(self, host: Tensor, device: Tensor) -> None:
        tolerance: dict[str, float] = {}
        if host.dtype != device.dtype:  # rounded at every step on the device, once here
            coarse = device.dtype == torch.bfloat16
            tolerance = {"rtol": 4e-2, "atol": 4e-2} if coarse else {"rtol": 5e-3, "atol": 5e-3}
            device = device.to(host.dtype)
            # Near the end of the narrow dtype's range, steps in between may leave it.
            limit = torch.finfo(torch.bfloat16 if coarse else torch.float16).max / 4
            near = (
                (torch.view_as_real(host).abs() > limit).any(-1) if host.is_complex() else host.abs() > limit
            )
            host, device = host.masked_fill(near, 0), device.masked_fill(near, 0)
        try:
            torch.testing.assert_close(device, host, equal_nan=True, **tolerance)
        except AssertionError as error:
            lines = str(error).splitlines()
            found = [
                line for line in lines if line.startswith(("Mismatched", "Greatest absolute", "Expected"))
            ]
            self.say("values: " + brief("; ".join(found) or str(error)))
        except Exception as error:
            self.say("values cannot be compared: " + brief(error))


def _strides(tensor: Tensor) -> list[int]:
    if tensor.numel() == 0:
        return []
    return [step for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]


def aliases(arguments: Any, results: Any) -> list[tuple[int, int, bool]]:
    """For each result: which argument's memory it shares (-1: none), from where, and whether it is it."""
    tensors = [leaf for leaf in pytree.tree_leaves(arguments) if _has_memory(leaf)]
    found = []
    for result in pytree.tree_leaves(results):
        if not _has_memory(result):
            continue
        place = result.untyped_storage()._cdata
        owner = next((i for i, t in enumerate(tensors) if t.untyped_storage()._cdata == place), -1)
        same = owner >= 0 and any(result is t for t in tensors)
        found.append((owner, result.storage_offset() if owner >= 0 else 0, same))
    return found


def _has_memory(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and type(value) is Tensor
        and value.layout is torch.strided
        and not value.is_nested
        and value.numel() > 0
    )


Kind = str
KINDS: tuple[Kind, ...] = ("forward", "backward", "inplace", "out")


class Pair:
    """One entry in one dtype."""

    def __init__(self, op: Any, dtype: torch.dtype) -> None:
        self.op = op
        self.dtype = dtype
        self.undefined = op.name in UNDEFINED_VALUES or bool(
            getattr(op, "has_nondeterministic_output", False)
        )

    def samples(self, first: int, later: int) -> Samples:
        """The first ones that the entry draws, and some spread over the rest."""
        torch.manual_seed(0)
        return few(
            self.op.sample_inputs("cpu", self.dtype, requires_grad=self.differentiable()), first, later
        )

    def differentiable(self, device: str = "cuda") -> bool:
        op = self.op
        return (
            bool(op.supports_autograd)
            and (self.dtype.is_floating_point or self.dtype.is_complex)
            and self.dtype in op.supported_backward_dtypes(device)
        )

    def check(self, kind: Kind, sample: Any) -> list[str] | None:
        """What differs; None where the entry has no such variant."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check: Callable[[Any], list[str] | None] = getattr(self, f"_{kind}")
            return check(sample)

    def kinds(self) -> list[Kind]:
        """The variants of the entry in this dtype."""
        op = self.op
        has = {
            "forward": True,
            "backward": self.differentiable(),
            "inplace": op.inplace_variant is not None,
            "out": bool(op.supports_out),
        }
        return [kind for kind in KINDS if has[kind]]

    # ---- the calls ----

    def _call(
        self, device: str, sample: Any, body: Callable[[Any, Any, Any, Copies], Any], grad: bool = False
    ) -> Outcome:
        def run() -> Any:
            rest = Copies("cpu", copies.dtypes) if self.op.name in HOST_ARGUMENTS else copies
            return body(copies(sample.input), rest(sample.args), rest(sample.kwargs), copies)

        copies = Copies(device, grad=grad)
        outcome = attempt(run)
        if device == "cpu" and self._left_to_cuda(outcome.error):
            copies = Copies(device, {self.dtype: WIDER[self.dtype]}, grad)
            wider = attempt(run)
            wider.refused = outcome.error
            outcome = wider
        outcome.arguments = copies
        return outcome

    def _left_to_cuda(self, error: Exception | None) -> bool:
        if error is None or self.dtype not in WIDER:
            return False
        return isinstance(error, NotImplementedError) or self.dtype not in self.op.supported_dtypes("cpu")

    def _both(
        self, sample: Any, body: Callable[[Any, Any, Any, Copies], Any], grad: bool = False
    ) -> tuple[Outcome, Outcome, Comparison]:
        host, device = (self._call(side, sample, body, grad) for side in ("cpu", "cuda"))
        wider = self.dtype if host.refused else None
        named = device.arguments is not None and device.arguments.placed
        comparison = Comparison(
            not (host.drew or self.undefined), named, self.op.name not in OWN_STRIDES, wider
        )
        shared = self.dtype in self.op.supported_dtypes("cpu")
        if host.refused is not None and device.error is not None and shared:
            host.error = host.refused
        if host.error is None and device.error is not None:
            comparison.say("raises " + brief(device.error))
        elif host.error is not None and device.error is None:
            # A dtype of CUDA's own, which the CPU has in no width: there is nothing to compare with.
            if shared:
                comparison.say("does not raise " + brief(host.error))
        elif host.error is not None and device.error is not None:
            same = str(device.error) == str(host.refused) and not isinstance(
                host.refused, NotImplementedError
            )
            if host.refused is not None and not shared and not same:
                comparison.say("raises " + brief(device.error))
            elif type(host.error) is not type(device.error):
                comparison.say(f"raises {brief(device.error)} instead of {brief(host.error)}")
        return host, device, comparison

    def _forward(self, sample: Any) -> list[str]:
        def body(first: Any, args: Any, kwargs: Any, _: Copies) -> Any:
            result = self.op(first, *args, **kwargs)
            return aliases((first, args, kwargs), result), sample.output_process_fn_grad(result), result

        host, device, comparison = self._both(sample, body)
        if host.error is None and device.error is None:
            comparison.tree(host.result[1], device.result[1])
            if host.result[0] != device.result[0]:
                comparison.say(f"aliases: {device.result[0]} instead of {host.result[0]}"[:200])
            comparison.values = False
            comparison.tree(host.result[2], device.result[2])
        return comparison.problems

    def _backward(self, sample: Any) -> list[str]:
        def body(first: Any, args: Any, kwargs: Any, copies: Copies) -> Any:
            result = sample.output_process_fn_grad(self.op(first, *args, **kwargs))
            outputs = [
                leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor) and leaf.requires_grad
            ]
            if not outputs or not copies.leaves:
                return outputs, ()
            numbers = torch.Generator().manual_seed(1)  # the default one tells whether the entry draws
            with torch.no_grad():
                gradients = [_gradient(output, numbers) for output in outputs]
            grads = torch.autograd.grad(outputs, copies.leaves, gradients, allow_unused=True)
            return outputs, grads

        host, device, comparison = self._both(sample, body, grad=True)
        if host.error is None and device.error is None:
            comparison.tree(host.result[1], device.result[1])
        return comparison.problems

    def _inplace(self, sample: Any) -> list[str] | None:
        if sample.broadcasts_input:
            return None

        def body(first: Any, args: Any, kwargs: Any, _: Copies) -> Any:
            result = self.op.inplace_variant(first, *args, **kwargs)
            return result is first, result, first

        host, device, comparison = self._both(sample, body)
        if host.error is None and device.error is None:
            comparison.tree(host.result, device.result)
        return comparison.problems

    def _out(self, sample: Any) -> list[str] | None:
        plain = self._call("cpu", sample, lambda first, args, kwargs, _: self.op(first, *args, **kwargs))
        results = plain.tensors()
        if plain.error is not None or not results or any(t.layout is not torch.strided for t in results):
            return None
        narrowed = {WIDER[self.dtype]: self.dtype} if plain.refused else {}

        problems: list[str] = []
        for form in ("whole", "empty", "other dtype"):

            def body(first: Any, args: Any, kwargs: Any, copies: Copies, form: str = form) -> Any:
                def place(leaf: Any) -> Any:
                    if not isinstance(leaf, Tensor):
                        return leaf
                    dtype = leaf.dtype if copies.dtypes else narrowed.get(leaf.dtype, leaf.dtype)
                    if form == "other dtype":
                        dtype = torch.int64 if dtype != torch.int64 else torch.bool
                    if form == "empty":
                        return torch.empty(0, dtype=dtype, device=copies.device)
                    return torch.zeros_like(leaf, dtype=dtype, device=copies.device)

                out = pytree.tree_map(place, plain.result)
                before = [leaf.data_ptr() for leaf in pytree.tree_leaves(out)]
                result = self.op(first, *args, **kwargs, out=out)
                after = [leaf.data_ptr() for leaf in pytree.tree_leaves(out)]
                stayed = before == after or form != "whole"
                pairs = zip(pytree.tree_leaves(result), pytree.tree_leaves(out), strict=True)
                return stayed, [one is other for one, other in pairs], out

            host, device, comparison = self._both(sample, body)
            if form == "other dtype" and (plain.refused or self.op.name in CASTS_OUT):
                continue
            if host.error is None and device.error is None:
                comparison.tree(host.result, device.result)
            problems += [f"{problem} (out: {form})" for problem in comparison.problems]
        return problems

    # ---- refusals ----

    def refusal(self, sample: Any) -> str | None:
        """The error the device raises on a sample that the CPU computes; "" if none; None: not comparable."""

        def body(first: Any, args: Any, kwargs: Any, _: Copies) -> Any:
            return self.op(first, *args, **kwargs)

        host, device = (self._call(side, sample, body) for side in ("cpu", "cuda"))
        if host.error is not None:
            return None
        return brief(device.error) if device.error is not None else ""


def _gradient(output: Tensor, numbers: torch.Generator) -> Tensor:
    """The same random numbers on every device, of the form of the output."""
    if output.layout is not torch.strided or output.is_nested:
        return torch.ones_like(output)
    wide = WIDER.get(output.dtype, output.dtype)
    drawn = torch.rand(output.shape, generator=numbers, dtype=wide).to(output.dtype)
    return drawn.to(output.device)


def states_errors(op: Any) -> bool:
    """Whether the entry lists wrong calls, and PyTorch itself holds CUDA to them."""
    return op.error_inputs_func is not None and not _exempt(op, "test_errors")


def declares_tested_dtypes(op: Any) -> bool:
    """Whether PyTorch itself holds CUDA to the dtypes that the entry declares."""
    return not _exempt(op, "test_dtypes")


def _exempt(op: Any, test: str) -> bool:
    return any(
        getattr(mark, "test_name", None) == test and mark.device_type in (None, "cuda")
        for mark in op.decorators
    )


def check_errors(op: Any) -> list[str]:
    """Runs the calls that CUDA must refuse, with the error and the message that OpInfo states."""
    problems = []
    for i, case in enumerate(op.error_inputs("cuda")):
        sample = case.sample_input
        outcome = attempt(functools.partial(op, sample.input, *sample.args, **sample.kwargs))
        if outcome.error is None and outcome.result is not NotImplemented:
            problems.append(f"{i}: does not raise {case.error_type.__name__}: {case.error_regex[:80]}")
        elif outcome.error is not None and not isinstance(outcome.error, case.error_type):
            problems.append(f"{i}: raises {brief(outcome.error)} instead of {case.error_type.__name__}")
        elif outcome.error is not None and not re.search(case.error_regex, str(outcome.error)):
            problems.append(f"{i}: says {brief(outcome.error)} instead of {case.error_regex[:80]}")
    return problems
