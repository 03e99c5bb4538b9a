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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

from tests.full.opinfo_comparison import FINER, WIDER, Comparison, aliases, as_near, brief
from tests.full.opinfo_copies import Copies

MOST_SAMPLES = 200
# Results that are memory as it was found, or that PyTorch declares to vary from call to call.
UNDEFINED_VALUES = {"empty_strided", "new_empty_strided"}
# Entries whose tensors beyond the first belong on the CPU on every device.
HOST_ARGUMENTS = {"tensor_split"}
# Entries whose kernels lay out results in another way on CUDA than on the CPU: attention's heads come last.
OWN_STRIDES = {"nn.functional.scaled_dot_product_attention"}
# Entries that give the mean and deviation of 16-bit floats in 32 bits on CUDA alone.
WIDE_STATISTICS = {"native_layer_norm"}
# Entries without an out= on CUDA.
NO_OUT = {"narrow_copy"}
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


# A call on (input, args, kwargs) that have been copied.
Body = Callable[[Any, Any, Any, Copies], Any]
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
            "out": bool(op.supports_out) and op.name not in NO_OUT,
        }
        return [kind for kind in KINDS if has[kind]]

    # ---- the calls ----

    def _call(
        self, device: str, sample: Any, body: Body, grad: bool = False, dtype: torch.dtype | None = None
    ) -> Outcome:
        def run() -> Any:
            rest = Copies("cpu", copies.dtypes) if self.op.name in HOST_ARGUMENTS else copies
            return body(copies(sample.input), rest(sample.args), rest(sample.kwargs), copies)

        copies = Copies(device, {self.dtype: dtype} if dtype else {}, grad)
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

    def _both(self, sample: Any, body: Body, grad: bool = False) -> tuple[Outcome, Outcome, Comparison]:
        host, device = (self._call(side, sample, body, grad) for side in ("cpu", "cuda"))
        wider = self.dtype if host.refused else None
        named = device.arguments is not None and device.arguments.placed
        comparison = Comparison(
            not (host.drew or self.undefined),
            named,
            self.op.name not in OWN_STRIDES,
            wider,
            self.op.name in WIDE_STATISTICS,
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
            self._settle(comparison, sample, body, False, host, device)
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
            self._settle(comparison, sample, body, True, host, device)
        return comparison.problems

    def _settle(
        self, comparison: Comparison, sample: Any, body: Body, grad: bool, host: Outcome, device: Outcome
    ) -> None:
        """Takes back that values differ where the device is as near to the exact result as the CPU is."""
        problems = comparison.problems
        if self.dtype not in FINER or not all(problem.startswith("values: ") for problem in problems):
            return
        if not problems or host.refused is not None:
            return
        exact = self._call("cpu", sample, body, grad, FINER[self.dtype])
        if exact.error is not None:
            return
        sides = (pytree.tree_leaves(side.result[1]) for side in (host, device, exact))
        if all(as_near(*leaves) for leaves in zip(*sides, strict=True)):
            problems.clear()

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
        if torch.float16 in narrowed.values() or torch.complex32 in narrowed.values():
            narrowed = {torch.float32: torch.float16, torch.complex64: torch.complex32}

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

    def holds_dtype(self, sample: Any) -> bool:
        """Whether a tensor of the sample is of the dtype; some entries draw what they want."""
        leaves = pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
        return any(isinstance(leaf, Tensor) and leaf.dtype == self.dtype for leaf in leaves)

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
    sixteenths = torch.randint(1, 17, output.shape, generator=numbers) / 16  # which every dtype holds
    return sixteenths.to(output.device, output.dtype)


def states_errors(op: Any) -> bool:
    """Whether the entry lists wrong calls, and PyTorch itself holds CUDA to them."""
    return op.error_inputs_func is not None and not _exempt(op, "test_errors")


def declares_tested_dtypes(op: Any) -> bool:
    """Whether PyTorch itself holds CUDA to the dtypes that the entry declares."""
    return not _exempt(op, "test_dtypes")


def only_on_cpu(op: Any) -> bool:
    """Whether PyTorch tests the entry on the CPU alone; its dtypes for CUDA are then the CPU's by default."""
    return any(getattr(mark, "__name__", "") == "onlyCPU" for mark in op.decorators)


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
