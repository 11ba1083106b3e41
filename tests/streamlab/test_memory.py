"""Buffers, the ledger, and state that travels."""

from __future__ import annotations

import array
import copy
import json
import random
import re
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from streamlab.batch import Batch
from streamlab.check.promises import check_resumes_mid_stream
from streamlab.check.subject import Subject, state_of
from streamlab.config import Budget
from streamlab.errors import BudgetExceeded, CorruptFile, StreamlabError
from streamlab.memory import BalancedBuffer, Buffer, HerdedBuffer, ReservoirBuffer
from streamlab.memory.ledger import check_budget, measure
from streamlab.memory.policies import POLICIES
from streamlab.memory.state import StateWriter
from streamlab.memory.state_reader import StateReader
from streamlab.nets.network import frozen_copy
from streamlab.setting import NoOptions
from streamlab.strategy import Strategy

CPU = torch.device("cpu")


def numbered(labels: list[int], start: int = 0) -> Batch:
    """Samples whose first pixels spell their number in the stream."""
    numbers = torch.arange(start, start + len(labels))
    images = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8).reshape(-1, 1, 1, 2)
    return Batch(images, torch.tensor(labels))


def fill(make: type[Buffer], labels: list[int], capacity: int, seed: int = 0, size: int = 7) -> Buffer:
    buffer = make((1, 1, 2), CPU, seed)
    buffer.allocate(capacity)
    for start in range(0, len(labels), size):
        buffer.add(numbered(labels[start : start + size], start))
    return buffer


def held_numbers(buffer: Buffer) -> list[int]:
    pixels = buffer.everything().images.long().reshape(-1, 2)
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), max_size=120),
    capacity=st.integers(0, 40),
    balanced=st.booleans(),
)
def test_a_buffer_holds_distinct_seen_samples_up_to_its_capacity(
    labels: list[int], capacity: int, balanced: bool
) -> None:
    buffer = fill(BalancedBuffer if balanced else ReservoirBuffer, labels, capacity)
    numbers = held_numbers(buffer)
    assert len(buffer) == len(numbers) == min(capacity, len(labels))
    assert len(set(numbers)) == len(numbers)
    assert buffer.everything().labels.tolist() == [labels[number] for number in numbers]
    drawn = buffer.draw(10)
    assert len(drawn) == min(10, len(buffer))
    rows = {tuple(row) for row in drawn.images.reshape(-1, 2).tolist()}
    assert len(rows) == len(drawn)


def test_reservoir_keeps_every_sample_equally_often() -> None:
    counts: Counter[int] = Counter()
    for seed in range(600):
        counts.update(held_numbers(fill(ReservoirBuffer, [0] * 50, 10, seed)))
    # 600 runs keep each of 50 samples with probability 1/5: 120 ± 4 deviations of 9.8.
    assert min(counts.values()) > 80
    assert max(counts.values()) < 160


def test_balanced_keeps_rare_classes_whole() -> None:
    labels = [0] * 100 + [1] * 3 + [0] * 100 + [2] * 30
    held = Counter(fill(BalancedBuffer, labels, 30).everything().labels.tolist())
    assert held[1] == 3
    assert abs(held[0] - held[2]) <= 1


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=80),
    capacity=st.integers(1, 40),
    fewer=st.integers(0, 40),
    policy=st.sampled_from(sorted(POLICIES)),
)
def test_a_buffer_that_shrinks_keeps_what_it_held_in_fresh_memory(
    labels: list[int], capacity: int, fewer: int, policy: str
) -> None:
    if policy == "herding":
        buffer: Buffer = HerdedBuffer((1, 1, 2), CPU, 0)
        buffer.allocate(capacity)
        buffer.herd(Stretch(numbered(labels)), lambda images: images.flatten(1).float())
    else:
        buffer = fill(POLICIES[policy], labels, capacity)
    before, quotas = held_numbers(buffer), Counter(buffer.everything().labels.tolist())
    fewer = min(fewer, capacity)
    buffer.shrink(fewer)
    after = held_numbers(buffer)
    assert len(buffer) == len(after) == min(fewer, len(before))
    assert set(after) <= set(before)
    assert buffer.everything().labels.tolist() == [labels[number] for number in after]
    assert (buffer.capacity, len(buffer.images), len(buffer.labels)) == (fewer,) * 3
    assert measure({"buffer": buffer}, {}).total == fewer * buffer.exemplar_bytes
    if policy != "reservoir" and after:
        counts = Counter(buffer.everything().labels.tolist())
        most = max(counts.values())
        assert all(counts[label] >= min(quotas[label], most - 1) for label in quotas)
    if policy != "herding":
        buffer.add(numbered([0, 1, 2], 1000))
        assert len(buffer) <= fewer


@dataclass(frozen=True)
class Stretch:
    """What a herded buffer needs of an experience."""

    batch: Batch

    @property
    def labels(self) -> torch.Tensor:
        return self.batch.labels

    def of_class(self, label: int) -> Batch:
        own = self.labels == label
        return Batch(self.batch.images[own], self.labels[own])


def test_extras_travel_with_their_exemplar() -> None:
    buffer = ReservoirBuffer((1, 1, 2), CPU, 0, extras={"logits": (3,)})
    buffer.allocate(5)
    batch = numbered([0, 1, 2, 3])
    with pytest.raises(StreamlabError, match="stores \\['logits'\\], which the batch does not have"):
        buffer.add(batch)
    buffer.add(batch.with_extras(logits=torch.arange(12.0).reshape(4, 3)))
    drawn = buffer.draw(4)
    np.testing.assert_array_equal(drawn.extras["logits"][:, 0] // 3, drawn.labels)
    assert buffer.exemplar_bytes == 2 + 8 + 12


def test_the_ledger_counts_each_storage_once_and_whole() -> None:
    big = torch.zeros(1000)
    ledger = measure({"view": big[:10], "again": big[500:], "row": np.zeros((4, 4))[1]}, {})
    assert ledger.bytes_by_kind == {"other": 4000 + 128}


def test_the_ledger_tells_kinds_apart() -> None:
    net = nn.Linear(10, 4)
    buffer = ReservoirBuffer((1, 2, 2), CPU, 0)
    buffer.allocate(100)
    buffer.add(Batch(torch.zeros(7, 1, 2, 2, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 10)).sum().backward()
    optimizer.step()
    held = {"net": net, "buffer": buffer, "teacher": frozen_copy(net), "optimizer": optimizer}
    ledger = measure(held, {"net": "model", "teacher": "extra models"})
    assert ledger.bytes_by_kind == {"model": 176, "exemplars": 100 * 12, "extra models": 176}
    assert (ledger.optimizer, ledger.exemplars_held, ledger.pixels) == (176, 7, 28)


def test_over_budget_names_who_holds_what() -> None:
    ledger = measure({"net": nn.Linear(1000, 10)}, {"net": "model"})
    check_budget(ledger, Budget(bytes=40_040))
    with pytest.raises(BudgetExceeded, match=r"^39.1 KiB held, budget 39.1 KiB: model 39.1 KiB$"):
        check_budget(ledger, Budget(bytes=40_039))


@dataclass(frozen=True)
class Held:
    number: int
    values: torch.Tensor


def round_trip(value: Any, current: Any = None) -> Any:
    writer = StateWriter()
    plain = json.loads(json.dumps(writer.plain(value, "value")))
    return StateReader(writer.tensors).value(plain, current)


def test_plain_values_and_containers_round_trip() -> None:
    value = {
        "none": None,
        "float": 0.1 + 0.2,
        "nan": float("nan"),
        "tuple": (1, (2, "three")),
        "set": {3, 1},
        "deque": deque([1, 2]),
        ("a", 1): [True, b"".hex()],
        "ordered": OrderedDict(b=1, a=2),
        "dtype": torch.float16,
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "frozen": Held(3, torch.ones(2)),
    }
    again = round_trip(value)
    assert list(again) == list(value)
    assert again["nan"] != again["nan"]
    for key in ("none", "float", "tuple", "set", "deque", ("a", 1), "ordered", "dtype"):
        assert again[key] == value[key]
        assert type(again[key]) is type(value[key])
    np.testing.assert_array_equal(again["array"], value["array"])
    assert again["frozen"].number == 3


def test_generators_go_on_where_they_were() -> None:
    numpy_generator, torch_generator = np.random.default_rng(3), torch.Generator().manual_seed(3)
    numpy_generator.random(5), torch.rand(5, generator=torch_generator)
    again = round_trip([numpy_generator, torch_generator])
    assert again[0].random() == numpy_generator.random()
    assert torch.equal(torch.rand(2, generator=again[1]), torch.rand(2, generator=torch_generator))


def test_a_grown_network_its_optimizer_and_a_teacher_come_back_into_a_new_instance() -> None:
    torch.manual_seed(0)

    def make() -> dict[str, Any]:
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        return {"net": net, "teacher": None, "optimizer": optimizer}

    def train(state: dict[str, Any], steps: int) -> None:
        for step in range(steps):
            inputs = torch.linspace(-1, 1, 24).reshape(6, 4) * (step + 1)
            state["optimizer"].zero_grad()
            state["net"](inputs).square().sum().backward()
            state["optimizer"].step()

    state = make()
    train(state, 3)
    state["teacher"] = frozen_copy(state["net"])
    grown = nn.Linear(8, 5)
    state["net"][2] = grown
    state["optimizer"].add_param_group({"params": list(grown.parameters())})
    train(state, 2)
    again = round_trip(state, make())
    assert again["net"][2].weight.shape == (5, 8)
    assert again["net"][2].weight is again["optimizer"].param_groups[1]["params"][0]
    assert not any(parameter.requires_grad for parameter in again["teacher"].parameters())
    train(state, 3), train(again, 3)
    for left, right in zip(
        state["net"].state_dict().values(), again["net"].state_dict().values(), strict=True
    ):
        assert torch.equal(left, right)


def test_a_view_comes_back_without_its_big_tensor_and_channels_last_stays() -> None:
    view = torch.arange(1000.0)[10:20]
    picture = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    again = round_trip([view, picture])
    assert torch.equal(again[0], view)
    assert again[0].untyped_storage().nbytes() == 40
    assert again[1].stride() == picture.stride()


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6.0).view(2, 3).T,
        torch.arange(24.0)[::3],
        torch.arange(24.0).view(4, 6)[1:3, ::2],
        torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        nn.Parameter(torch.arange(6.0).view(2, 3).T),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24.0)[::-3],
        np.arange(24).reshape(4, 6)[::-1, 1::2],
        np.arange(24, dtype="<c8").reshape(2, 3, 4).transpose(2, 0, 1),
    ],
)
def test_the_order_in_memory_comes_back(value: Any) -> None:
    """Sums and products of the same numbers in another order may differ in their last bits."""
    again = round_trip(value)
    assert (again == value).all()
    stride = (lambda held: held.stride()) if isinstance(value, Tensor) else (lambda held: held.strides)
    assert stride(again) == stride(value)
    again = again.detach() if isinstance(value, Tensor) else again
    again += 1  # in memory of its own, each element once
    assert (again == value + 1).all()


def identical(one: Any, other: Any) -> bool:
    """The same class and content, to the bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and identical(one.numpy(), other.numpy())
    if isinstance(one, (random.Random, np.random.RandomState)):
        return repr([one.random() for _ in range(5)]) == repr([other.random() for _ in range(5)])
    if isinstance(one, dict):
        same_factory = getattr(one, "default_factory", None) is getattr(other, "default_factory", None)
        return same_factory and identical(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple, deque)):
        return (
            len(one) == len(other)
            and getattr(one, "maxlen", 0) == getattr(other, "maxlen", 0)
            and all(identical(a, b) for a, b in zip(one, other, strict=True))
        )
    return one == other or (one != one and other != other)


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 2


NUMBERS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
    | st.complex_numbers(allow_nan=False) | st.binary(max_size=6) | st.binary(max_size=6).map(bytearray)
    | st.floats(width=32).map(np.float32) | st.integers(-100, 100).map(np.int16)
)  # fmt: skip
KEYS = st.integers() | st.text(max_size=3) | st.tuples(st.integers(), st.text(max_size=2))
LEAVES = (
    NUMBERS
    | st.integers(0, 99).map(random.Random)
    | st.integers(0, 99).map(np.random.RandomState)
    | st.frozensets(KEYS, max_size=4)
    | st.sets(KEYS, max_size=4)
    | st.builds(range, st.integers(0, 9), st.integers(0, 9), st.integers(1, 3))
    | st.dictionaries(KEYS, st.integers(0, 9), max_size=4).map(Counter)
    | st.sampled_from([torch.float16, torch.Size([2, 3]), slice(1, None, 2), Colour.RED, Level.LOW])
    | st.sampled_from(["<f4", "<f8", "<i2", "<u4", "|b1", "<c8"]).map(lambda kind: np.arange(6).astype(kind))
    | st.lists(st.floats(width=32), max_size=4).map(torch.tensor)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.builds(deque, st.lists(inner, max_size=3), st.none() | st.integers(3, 5))
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(KEYS, inner, max_size=3).map(lambda held: defaultdict(list, held))
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(value=VALUES)
def test_whatever_a_strategy_holds_comes_back_as_it_was(value: Any) -> None:
    """Kept to the bit, of the same classes, at any depth."""
    assert identical(round_trip(copy.deepcopy(value)), value)


def test_two_names_of_one_container_stay_two_names_of_it() -> None:
    shared: list[Any] = [1]
    bag, queue = {1}, deque([2], maxlen=3)
    again = round_trip({"a": shared, "b": [shared, bag, queue], "c": bag, "d": queue})
    assert again["a"] is again["b"][0]
    assert again["c"] is again["b"][1]
    assert again["d"] is again["b"][2]


class Names(list[int]):
    """A list with an attribute."""


Pair = namedtuple("Pair", "left right")


class Named(torch.Tensor):
    """A tensor of a class of its own."""


def with_hook(tensor: Tensor) -> Tensor:
    tensor.register_hook(lambda gradient: None)
    return tensor


def with_note(tensor: Tensor) -> Tensor:
    vars(tensor)["note"] = 1
    return tensor


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Pair(1, 2), "is a Pair, a tuple of a class of its own"),
        (Names([1]), "is a Names, a list of a class of its own"),
        (Decimal("1.5"), "is a Decimal, which no checkpoint can hold"),
        (array.array("d", [1.0]), "is a array, which no checkpoint can hold"),
        (np.ma.masked_array([1, 2], [0, 1]), "is a MaskedArray, a ndarray of a class of its own"),
        (np.zeros(2, [("a", "i4")]), "which no checkpoint can hold; use one of numbers"),
        (np.array(["a"]), "which no checkpoint can hold; use one of numbers"),
        (defaultdict(lambda: 3), "its factory is a function; use a builtin class"),
        (
            torch._empty_affine_quantized([3], scale=0.1, zero_point=0, dtype=torch.qint8),
            "is a tensor of qint8, which no",
        ),
        (torch.zeros(1).expand(4), "apart; keep a copy (.clone())"),
        (torch.arange(5.0).unfold(0, 3, 1), "is an expanded tensor, whose elements share their values"),
        (np.broadcast_to(np.zeros(1), (3,)), "is an expanded array, whose elements share their values"),
        (np.zeros(2, ">f4"), "is an array of >f4, which no checkpoint can hold; use one of numbers"),
        (np.zeros(2, np.longdouble), "which no checkpoint can hold; use one of numbers"),
        (torch.zeros(2).as_subclass(Named), "is a Named, a tensor of a class of its own"),
        (with_hook(torch.zeros(2, requires_grad=True)), "has a hook, which no checkpoint can hold"),
        (with_note(torch.zeros(2)), "is a tensor with an attribute of its own (note), which no"),
        (torch.eye(3).to_sparse(), "is a tensor of sparse_coo, which no checkpoint can hold; keep it plain"),
        (iter([1]), "is a list_iterator, which no checkpoint can hold"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_come_back_as_it_was_is_refused(value: Any, said: str) -> None:
    with pytest.raises(StreamlabError, match=re.escape(said)) as told:
        StateWriter().plain({"deep": [value]}, "held")
    assert str(told.value).startswith("held.deep.0")


class Hooked(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.my_hooks = count


def test_an_attribute_of_a_module_may_be_named_after_hooks() -> None:
    """Whatever had "hooks" in its name was left out."""
    again = round_trip(Hooked(3), Hooked(0))
    assert again.my_hooks == 3


def test_what_no_checkpoint_can_hold_is_refused_by_name() -> None:
    with pytest.raises(StreamlabError, match=r"value\.rule is a function, which no checkpoint can hold"):
        StateWriter().plain({"rule": len}, "value")
    with pytest.raises(StreamlabError, match="value is an array of Python objects"):
        StateWriter().plain(np.array([object()]), "value")


def test_a_checkpoint_cannot_name_a_class_that_is_not_imported() -> None:
    plain = {"id": 0, "type": "object", "class": "not.imported:Thing", "attributes": {}}
    with pytest.raises(CorruptFile, match="which is not a class of this run"):
        StateReader({}).value(plain)


ROWS, GRID = torch.arange(6.0), np.arange(6.0)


@pytest.mark.parametrize(
    "value",
    [
        {"rows": ROWS, "first": ROWS[:2]},
        {"rows": ROWS, "turned": ROWS.view(2, 3).T},
        {"parameter": nn.Parameter(ROWS), "bare": ROWS},
        {"grid": GRID, "part": GRID[::2]},
        {"grid": GRID, "tensor": torch.from_numpy(GRID)},
    ],
    ids=["a part", "a view", "a parameter's data", "an array's part", "an array as a tensor"],
)
def test_two_values_of_one_memory_are_refused_by_both_names(value: dict[str, Any]) -> None:
    first, second = value
    said = rf"value.{second} and value.{first} are views of the same values, .* or a copy \(.clone\(\)\)"
    with pytest.raises(StreamlabError, match=said):
        round_trip(value)
    assert round_trip({first: value[first], second: value[first]})  # one object under two names is one


def test_empty_tensors_share_nothing() -> None:
    assert round_trip([torch.zeros(0), torch.zeros(0), ROWS[:0], np.zeros(0), np.zeros(0)])


class Accumulating(Strategy):
    """Adds gradients up over three batches, and then takes a step."""

    def setup(self) -> None:
        self.calls = 0

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        assert self.optimizer is not None
        loss = self.cross_entropy(self.net(batch.images), batch.labels)
        torch.autograd.backward(loss)
        self.calls += 1
        if self.calls % 3 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return {"task": loss}


def test_gradients_that_are_added_up_over_steps_come_back() -> None:
    """The seventh batch, after which the check kills, is the first of three."""
    check_resumes_mid_stream(Subject(Accumulating, NoOptions(), "accumulating"))
    assert "net.backbone.layers.1.weight.grad" in state_of(Subject.named("gem").run().strategy)[1]
    assert not any(name.endswith(".grad") for name in state_of(Subject.named("er").run().strategy)[1])
