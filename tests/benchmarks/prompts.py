"""One MVP update and one test evaluation on glyph-vit, against the authors' way of computing them.

Theirs, written anew from the paper and the reference numbers: the query is taken in every update and
for every test image at every evaluation, and the gradient-similarity score takes a backward pass a
sample. Both compute the same losses and predictions, which is asserted before anything is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.data.load import load_source
from streamlab.nets.network import PixelStatistics
from streamlab.nets.transformer import Appended, cosine_distances
from streamlab.randomness import global_randomness
from streamlab.strategies import mvp
from streamlab.strategy import Batch, Setting
from streamlab.training import OptimizerConfig

BATCH, UPDATES, TURNS, TEST = 64, 3, 7, 2000


def make(device: torch.device) -> mvp.MaskAndVisualPrompts:
    setting = Setting(
        100, (1, 28, 28), 0, device, PixelStatistics(0.1, 0.3), {}, OptimizerConfig("adam", 0.005)
    )
    strategy = mvp.MaskAndVisualPrompts(setting)
    strategy.exposed[:] = True
    return strategy


def their_scores(
    logits: Tensor, labels: Tensor, features: Tensor, strategy: mvp.MaskAndVisualPrompts, masks: Tensor
) -> Tensor:
    """The gradient-similarity score with one backward pass a sample, by the head's weight."""
    weight = strategy.net.head.weight
    plain = F.linear(features.detach(), weight, strategy.net.head.bias) * masks.detach()
    each = F.cross_entropy(plain, labels, reduction="none")
    mean = torch.autograd.grad(each.mean(), weight, retain_graph=True)[0]
    scores = []
    for number, label in enumerate(labels):
        own = torch.autograd.grad(each[number], weight, retain_graph=True)[0][label]
        scores.append(1 - F.cosine_similarity(own, mean[label], dim=0, eps=1e-8))
    return torch.stack(scores)


def their_query(strategy: mvp.MaskAndVisualPrompts, scaled: Tensor) -> Tensor:
    """The class token without prompts, every token through every whole block but the last."""
    with torch.no_grad():
        tokens = strategy.transformer.tokens(scaled)
        for block in strategy.transformer.model.blocks[:-1]:
            tokens = block(tokens)
    return tokens[:, 0]


def their_forward(
    strategy: mvp.MaskAndVisualPrompts, scaled: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distances, choices, features and masks, prompts and all through every whole block."""
    distance = cosine_distances(their_query(strategy, scaled), strategy.keys)
    choice = mvp.choose(distance, strategy.counts, True)
    prompts = {**strategy.general.at(torch.zeros_like(choice)), **strategy.expert.at(choice)}
    tokens = strategy.transformer.tokens(scaled)
    for number, block in enumerate(strategy.transformer.model.blocks):
        prompt = prompts.get(number)
        if isinstance(prompt, Appended):
            tokens = block(torch.cat([tokens, prompt.rows], 1))[:, : tokens.shape[1]]
        else:
            tokens = block(tokens)
    features = strategy.transformer.model.norm(tokens)[:, 0]
    return distance, choice, features, 2 * torch.sigmoid(strategy.masks[choice])


def their_update(strategy: mvp.MaskAndVisualPrompts, batch: Batch) -> Tensor:
    """One update as the authors' code orders it; returns the task loss."""
    scaled = strategy.net.scaled(batch.images)
    distance, choice, features, masks = their_forward(strategy, scaled)
    divisor = mvp.compensation_scores(features, batch.labels, strategy.net.head.weight, 0.5)
    logits = strategy.net.head(features / divisor[:, None]) * masks
    each = F.cross_entropy(logits, batch.labels, reduction="none")
    scores = their_scores(logits, batch.labels, features, strategy, masks)
    task = mvp.weighted_loss(each, scores, 0.5, 2.0, "reference")
    keys = mvp.contrastive_prompt_loss(distance, strategy.keys, choice, strategy.counts)
    strategy.counts = strategy.counts + torch.bincount(choice, minlength=10)
    strategy.step({"task": task, "prompts": keys})
    return task.detach()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure() -> dict[str, float]:
    """Milliseconds of a batch's three updates and of an evaluation, ours and theirs; ratios of medians."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    source = load_source("glyphs-100")
    order = torch.randperm(len(source.train_labels), generator=torch.Generator().manual_seed(0))
    images, labels = torch.from_numpy(source.train_images), torch.from_numpy(source.train_labels)
    test = torch.from_numpy(source.test_images[:TEST]).to(device)
    with global_randomness(0, "benchmark"):
        ours, theirs = make(device), make(device)
    times: dict[str, list[float]] = {name: [] for name in ("ours", "theirs", "our test", "their test")}
    with torch.no_grad():
        queries = [ours.embed(part) for part in torch.split(test, 500)]
    for turn in range(TURNS + 1):
        rows = order[turn * BATCH : (turn + 1) * BATCH]
        batch = Batch(images[rows].to(device), labels[rows].to(device))
        losses: dict[str, list[Tensor]] = {"ours": [], "theirs": []}

        def our_batch(batch: Batch = batch, kept: list[Tensor] = losses["ours"]) -> None:
            kept.extend(ours.observe(batch)["task"].detach() for _ in range(UPDATES))
            ours.remember(batch)

        def their_batch(batch: Batch = batch, kept: list[Tensor] = losses["theirs"]) -> None:
            kept.extend(their_update(theirs, batch) for _ in range(UPDATES))

        @torch.no_grad()
        def our_test() -> list[Tensor]:
            parts = zip(torch.split(test, 500), queries, strict=True)
            return [ours.score(query, part).argmax(1) for part, query in parts]

        @torch.no_grad()
        def their_test() -> list[Tensor]:
            parts = torch.split(test, 500)
            both = [their_forward(theirs, theirs.net.scaled(part))[2:] for part in parts]
            return [(theirs.net.head(features) * masks).argmax(1) for features, masks in both]

        turns = {"ours": our_batch, "theirs": their_batch, "our test": our_test, "their test": their_test}
        for name, work in turns.items():
            taken = seconds(work, device)
            if turn:  # the first one warms up
                times[name].append(taken)
        torch.testing.assert_close(losses["ours"], losses["theirs"], rtol=1e-2, atol=1e-3)
    middle = {name: 1000 * statistics.median(values) for name, values in times.items()}
    update = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
    evaluation = statistics.median(b / a for a, b in zip(times["our test"], times["their test"], strict=True))
    return {**middle, "update ratio": update, "evaluation ratio": evaluation}


def section() -> list[str]:
    """The page's section."""
    found = measure()
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else "one CPU thread"
    unmeasured = [] if torch.cuda.is_available() else ["On a GPU it is not measured yet.", ""]
    return [
        "## An MVP update and evaluation on glyph-vit",
        "",
        f"A batch of {BATCH} with {UPDATES} updates, and an evaluation of {TEST:,} test images after the first one; {place};",
        f"medians of {TURNS} turns in one process. The authors' way: the query in every update and at every evaluation, a",
        "backward pass a sample for the gradient-similarity score. The same losses, which is asserted.",
        "",
        "| | the authors' way, ms | streamlab, ms | faster |",
        "| --- | ---: | ---: | ---: |",
        f"| a batch, {UPDATES} updates | {found['theirs']:.0f} | {found['ours']:.0f} | {found['update ratio']:.2f} |",
        f"| an evaluation | {found['their test']:.0f} | {found['our test']:.0f} | {found['evaluation ratio']:.2f} |",
        "",
        *unmeasured,
    ]  # fmt: skip
