"""Breaks a line at a time and says which test falls: `python tests/mutants.py [NAME…]`, about ten minutes.

Each mutant is a line of a method or of the kernel with a sign, a factor or a call changed. The project is
copied to a temporary folder, so that nothing here is touched. A mutant that no test notices ends the program
with an error, and so does one whose line is no longer there.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
METHODS = ["tests/strategies"]
KERNEL = [f"tests/streamlab/test_{name}.py" for name in ("memory", "schedules", "views", "mended", "compare")]
DATA = [f"tests/streamlab/test_{name}.py" for name in ("pictures", "arrays", "sources")]
EPISODES = ["tests/strategies/test_authors_episodes.py"]
VIEWS = ["tests/streamlab/test_views.py", "-k", "resized or resize"]
WHOLES = ["tests/streamlab/test_wholes.py"]
PICTURES = ["tests/streamlab/test_pictures.py", "-k", "si_blurry"]
DEVICE = ["tests/streamlab/test_device.py"]
ISOLATION = ["tests/streamlab/test_isolation.py"]
PILOTS = ["tests/strategies/test_authors_pretrained.py"]
PRETRAINED, SEALS = ["tests/strategies/test_pretrained.py"], ["tests/streamlab/test_seals.py"]
WEIGHTS, ROWS, WHOLES, EXPORT = (
    [f"tests/streamlab/test_{name}.py"] for name in ("timm", "rows", "wholes", "export")
)
# name: file, what stands there, what stands there instead, which tests must notice
MUTANTS = {
    "adapters at full strength": ("streamlab/nets/adapters.py", "0.1 * self.up(hidden)", "self.up(hidden)", PRETRAINED),
    "ssf without a shift": ("streamlab/nets/adapters.py", "return made * self.scale + self.shift", "return made * self.scale", PRETRAINED),
    "prompts are never off": ("streamlab/nets/transformer.py", "self.visual_prompts is None or not self.visual_prompts.on", "self.visual_prompts is None", PRETRAINED),
    "aper among all classes": ("streamlab/parts/first_session.py", "batch.labels, strategy.current_classes)", "batch.labels)", PRETRAINED),
    "components without projections": ("strategies/coda_prompt.py", "drawn - shares @ rows", "drawn", PILOTS),
    "old components learn on": ("strategies/coda_prompt.py", "table[:, :old].detach()", "table[:, :old]", PILOTS),
    "attention without a length": ("strategies/coda_prompt.py", "F.normalize(keys, dim=2)", "keys", PILOTS),
    "old rows decay": ("streamlab/parts/heads.py", "table.copy_(", "table.add_(0 * ", PILOTS),
    "inflora's terms disturb": ("strategies/inflora.py", "space.open(moment)", "moment", PILOTS),
    "inflora keeps one share": ("strategies/inflora.py", "* view.number / options.tasks", "* 0", PILOTS),
    "inflora's terms are forgotten": ("streamlab/nets/adapters.py", "torch.cat([self.old_up, self.up], dim=2) @", "torch.cat([0 * self.old_up, self.up], dim=2) @", PILOTS),
    "old means stay": ("strategies/slca.py", "0.1 * (sessions + 1)", "0.1 * (sessions.max() + 1)", PILOTS),
    "aligned for good": ("strategies/slca.py", "self.aligned.load_state_dict(self.net.head.state_dict())", "pass", PILOTS),
    "nothing is put back": ("streamlab/simulator/surroundings.py", "        before.put_back()", "        pass", ISOLATION),
    "functions are not looked at": ("streamlab/simulator/surroundings.py", "return [*settings, *(_called(owner, name) for owner, name in others)]", "return settings", ISOLATION),
    "a changed process goes on": ("streamlab/simulator/execute.py", "raise StreamlabError(_left(changed))", "pass", ISOLATION),
    "strangers share a worker": ("streamlab/runs/spec.py", 'return " ".join(name for kind, name in named if not plugins.is_ours(kind, name))', 'return ""', ISOLATION),
    "silence is golden": ("streamlab/simulator/pool.py", "time.monotonic() - worker.heard > patience", "False", ISOLATION),
    "views are kept apart": ("streamlab/memory/state.py", "if memory and memory in self._memory:", "if False:", KERNEL),
    "globals may change": ("streamlab/simulator/simulation.py", "        self._check_outside()", "        pass", ["tests/streamlab/test_failures.py"]),
    "a header is believed": ("streamlab/data/npz.py", "math.prod(shape) * dtype.itemsize != member.file_size - file.tell()", "False", ["tests/streamlab/test_arrays.py"]),
    "encrypted is read": ("streamlab/data/npz.py", "if member.flag_bits & 1:", "if False:", ["tests/streamlab/test_arrays.py"]),
    "steps never grow": ("streamlab/experiments/pilot.py", "return grown if grown > 1.5 else 1.0", "return 1.0", ["tests/streamlab/test_pilot.py"]),
    "any step is taken": ("streamlab/experiments/pilot.py", "small = step * _largest_batch(made) <= _STEP_SECONDS", "small = True", ["tests/streamlab/test_pilot.py"]),
    "every batch a shelf": ("streamlab/interop/avalanche_strategies.py", "if self.used + len(labels) > self.room:", "if True:", ["tests/streamlab/test_avalanche.py::test_batches_of_an_online_stream_are_parts_of_one_data_set"]),
    "lora beside nothing": ("streamlab/nets/lora.py", "self.inner(rows) if self.on else self.inner.base_layer(rows)", "self.inner.base_layer(rows)", PRETRAINED),
    "mos never merges": ("strategies/mos.py", "self.adapters.merge(self.options.merge)", "pass", PILOTS),
    "mos merges towards the last": ("streamlab/nets/adapters.py", "for one in earlier]).mean(0)", "for one in earlier])[-1]", PILOTS),
    "mos begins anew": ("strategies/mos.py", "self.adapters.grow(anew=False)", "self.adapters.grow()", PILOTS),
    "mos keeps nothing apart": ("strategies/mos.py", "torch.cat([self.before, features])", "features", PILOTS),
    "mos never refines": ("strategies/mos.py", "place = named[rows, place]", "pass", PILOTS),
    "mos sharpens nothing": ("strategies/mos.py", "(sessions * first)", "first", PILOTS),
    "alignment at one rate": ("streamlab/parts/gaussians.py", "alignment.lr * rate_factor(_COSINE, moment)", "alignment.lr", PILOTS),
    "ease mixes later classes alike": ("strategies/ease.py", "likeness.softmax(1)", "torch.ones_like(likeness).softmax(1)", PILOTS),
    "all subspaces weigh alike": ("strategies/ease.py", "alpha / max(1, subspaces - 1)", "alpha", PILOTS),
    "earlier adapters learn on": ("streamlab/nets/adapters.py", "choice.branches.requires_grad_(False)", "pass", PILOTS),
    "a broken worker goes on": ("streamlab/simulator/pool.py", 'if plain["broken"]:', "if False:", ["tests/cli/test_compare.py"]),
    "any GPU is taken": ("streamlab/device.py", "(device.index or 0) >= count", "False", DEVICE),
    "a lone GPU keeps its number": ("streamlab/device.py", "0 if alone or device.index is None", "0 if device.index is None", DEVICE),
    "unstable kernels are warned of": ("streamlab/simulator/execute.py", "torch.use_deterministic_algorithms(True)", "torch.use_deterministic_algorithms(True, warn_only=True)", DEVICE),
    "a cpu run asks for the gpu": ("streamlab/randomness.py", "if gpu_in_use() else None", "if torch.cuda.is_available() else None", DEVICE),
    "simplecil by product": ("strategies/simplecil.py", "F.normalize(embedding) @", "embedding @", PRETRAINED),
    "ranpac counts views": ("strategies/ranpac.py", "self.embeddings_of(batch.originals)", "self.embeddings_of(batch.images)", PRETRAINED),
    "given weights are stored": ("streamlab/memory/state.py", "isinstance(value, self._leave_out) or _is_given(value)", "isinstance(value, self._leave_out)", WEIGHTS),
    "frozen statistics move": ("streamlab/nets/timm_model.py", "module.eval()", "module.train(mode)", WEIGHTS),
    "weights without an identity": ("streamlab/runs/identity.py", "if weights.is_file():", "if False:", WEIGHTS),
    "no file of a result is looked at": ("streamlab/runs/folder.py", "name not in seals or digest_of(self.path / name) != seals[name]", "name not in seals", SEALS),
    "the log is not looked at": ("streamlab/runs/folder.py", "digest_of(log, log_length) != log_seal", "False", SEALS),
    "features outlive their backbone": ("streamlab/evaluation/evaluator.py", "not (strategy.frozen or same)", "False", SEALS),
    "parts of the middle alone": ("streamlab/augmentation/views.py", "one if one is not None else image.cpu()", "image.cpu()", WHOLES),
    "wholes shift by a row": ("streamlab/data/pictures.py", "wholes.put(first + start + row, made.whole)", "wholes.put(start + row, made.whole)", WHOLES),
    "a digest without wholes": ("streamlab/data/source.py", "digest.update(self.wholes.pixels(row).data)", "pass", WHOLES),
    "carved in another order": ("streamlab/data/validation.py", 'np.argsort(apart, kind="stable")', "slice(None)", WHOLES),
    "epochs learn from middles": ("streamlab/simulator/view.py", "self.split.wholes_at(rows) if self.views", "None if self.views", WHOLES),
    "the stream learns from middles": ("streamlab/simulator/stream_simulation.py", "wholes=self.train.wholes_at(served.device)", "wholes=None", WHOLES),
    "bases learn from middles": ("streamlab/simulator/fit.py", "split.wholes_at(rows) if data.operations else None", "None", WHOLES),
    "cutout to the border": ("streamlab/augmentation/geometry.py", "first = (middle - half).clamp(min=0)", "first = middle.clamp(min=0)", ["tests/streamlab/test_operations.py"]),
    "what was expected is served": ("streamlab/data/rows.py", "np.array_equal(expected[0], rows)", "True", ROWS),
    "evaluations of any size": ("streamlab/batch.py", "min(500, (8 << 20) // math.prod(shape))", "500", ROWS),
    "networks with their exemplars": ("streamlab/trained.py", "leave_out=_LEFT_OUT", "leave_out=()", EXPORT),
    "saved plans of any labels": ("scenarios/saved.py", "if not _same_labels(plan, labels):", "if False:", ["tests/streamlab/test_mended.py"]),
    "agem never projects": ("strategies/agem.py", "torch.where(along < 0,", "torch.where(along < -1e30,", METHODS),
    "anil without its mean": ("strategies/anil.py", "torch.stack(losses).mean()", "torch.stack(losses).sum()", METHODS),
    "baseline++ by sums": ("strategies/baseline_plus_plus.py", "loss / rows.shape[1]", "loss", METHODS),
    "bic's teacher uncorrected": ("strategies/bic.py", "self.corrected(self.teacher.logits(batch.images))", "self.teacher.logits(batch.images)", METHODS),
    "bic without an offset": ("strategies/bic.py", "pair[0] * logits + pair[1]", "pair[0] * logits", METHODS),
    "der++ without alpha": ("strategies/der_plus_plus.py", "self.options.alpha * F.mse_loss", "F.mse_loss", METHODS),
    "der++ without beta": ("strategies/der_plus_plus.py", "self.options.beta * self.cross", "self.cross", METHODS),
    "dualprompt pushes": ("strategies/dualprompt.py", "self.details.pull * distances", "-self.details.pull * distances", METHODS),
    "er without replayed": ("strategies/er.py", "self.buffer.draw(self.rehearsal.beside(batch))", "self.buffer.draw(0)", METHODS),
    "er-ace masks nothing": ("strategies/er_ace.py", "index_fill_(0, batch.labels, True)", "fill_(True)", METHODS),
    "ewc by lambda": ("strategies/ewc.py", "self.options.strength / 2 *", "self.options.strength *", METHODS),
    "ewc by |g|": ("strategies/ewc.py", "torch.square, self.options.samples", "torch.abs, self.options.samples", METHODS),
    "expandable-der without auxiliary": ("streamlab/parts/expansion.py", "weight * self.auxiliary", "0 * self.auxiliary", METHODS),
    "fact without eta": ("strategies/fact.py", "eta * (kept @ products).softmax(1) + (1 - eta) * cosines", "(kept @ products).softmax(1) + cosines", METHODS),
    "finetune on scaled logits": ("strategies/finetune.py", 'return {"task": task,', 'return {"task": 2 * task,', METHODS),
    "foster multiplies": ("strategies/foster.py", "cross_entropy(logits / weights", "cross_entropy(logits * weights", METHODS),
    "foster's student unbalanced": ("strategies/foster.py", "F.softmax(teacher / temperature, 1) * weights", "F.softmax(teacher / temperature, 1)", METHODS),
    "fscil-finetune among all": ("strategies/fscil_finetune.py", "batch.labels, self.exposed)", "batch.labels)", METHODS),
    "gdumb without clipping": ("strategies/gdumb.py", "nn.utils.clip_grad_norm_(parameters, options.clip)", "pass", METHODS),
    "gdumb at a constant rate": ("strategies/gdumb.py", "set_rate(optimizer, learning_rate(epoch, options))", "pass", METHODS),
    "gem without a margin": ("strategies/gem.py", "v = margin + least", "v = least", METHODS),
    "icarl without its teacher": ("strategies/icarl.py", "self.teacher.logits(combined.images).sigmoid()", "logits.detach().sigmoid()", METHODS),
    "icarl's means unnormalised": ("streamlab/parts/prototypes.py", "return F.normalize(sums)", "return sums", METHODS),
    "podnet's factor": ("strategies/podnet.py", ".sum().clamp(min=1)).sqrt()", ".sum().clamp(min=1))", ["tests/strategies/test_survey.py"]),
    "podnet's maps as they are": ("strategies/podnet.py", "squares = maps.square()", "squares = maps", ["tests/strategies/test_survey.py"]),
    "podnet's proxies count alike": ("strategies/podnet.py", "(each.softmax(2) * each).sum(2)", "each.mean(2)", ["tests/strategies/test_survey.py"]),
    "podnet among all": ("strategies/podnet.py", ".masked_fill(right, 0.0).sum(1)", ".sum(1)", ["tests/strategies/test_survey.py"]),
    "podnet's old proxies learn": ("strategies/podnet.py", "self.held = self.proxies()", "self.held = self.held", ["tests/strategies/test_survey.py"]),
    "coil without gamma": ("strategies/coil.py", "return gamma * moved, gamma", "return moved, gamma", ["tests/strategies/test_survey.py"]),
    "coil's share": ("strategies/coil.py", '"task": (1 - share) * task', '"task": task', ["tests/strategies/test_survey.py"]),
    "coil's carried rows as ever": ("strategies/coil.py", "(self.epoch / self.epochs) ** 2", "(self.epoch / self.epochs)", ["tests/strategies/test_survey.py"]),
    "coil carries back for nothing": ("strategies/coil.py", "self.served, self.epoch = 0, self.epoch + 1", "self.epoch += 1", ["tests/strategies/test_survey.py"]),
    "scr near itself": ("streamlab/parts/contrastive.py", 'temperature).masked_fill(itself, float("-inf"))', "temperature)", ["tests/strategies/test_online.py"]),
    "pcr's classes count once": ("streamlab/parts/contrastive.py", "(logits + counts.to(logits.dtype).log())", "logits.masked_fill(counts == 0, float('-inf'))", ["tests/strategies/test_online.py"]),
    "a clock saves time": ("streamlab/plans/clock.py", "min(before, spent) +", "before +", ["tests/streamlab/test_clock.py"]),
    "a clock lends": ("streamlab/plans/clock.py", "granted > spent", "granted >= spent", ["tests/streamlab/test_clock.py"]),
    "a shift is one too far": ("streamlab/plans/clock.py", "int(found[0]) + 1", "int(found[0]) + 2", ["tests/streamlab/test_clock.py"]),
    "what is ahead is judged from what comes": ("streamlab/evaluation/arrivals.py", "self.shift - 1)", "self.shift)", ["tests/streamlab/test_clock.py"]),
    "samples that pass are known": ("streamlab/simulator/stream_simulation.py", "self._expose(served.host, seen=False)", "self._expose(served.host)", ["tests/streamlab/test_clock.py"]),
    "all labels come": ("streamlab/simulator/stream_simulation.py", "return self.ends[-1 - delay] if delay else", "return self.ends[-1] if delay else", ["tests/streamlab/test_clock.py"]),
    "what is passed is used": ("streamlab/simulator/stream_simulation.py", "progress.used += count if number == 0 else 0", "progress.used += count", ["tests/streamlab/test_clock.py"]),
    "short batches cost as whole ones": ("streamlab/simulator/simulation.py", "progress.step_flops.get(str(size))", "next(iter(progress.step_flops.values()), None)", ["tests/streamlab/test_clock.py"]),
    "classes come by given labels": ("streamlab/simulator/stream_simulation.py", "labels_at(self.true_labels, indices)", "labels_at(self.host_labels, indices)", ["tests/streamlab/test_noise.py"]),
    "noise forgets the experience": ("streamlab/noise.py", "if plan.shows_boundaries:", "if False:", ["tests/streamlab/test_noise.py"]),
    "a label is wrong of itself": ("streamlab/noise.py", "found = self.noise_rate * others / max(1, len(among) - 1)", "found = self.noise_rate * np.ones_like(others) / len(among)", ["tests/streamlab/test_noise.py"]),
    "scr learns at once": ("strategies/scr.py", "super().observe(batch) if len(self.buffer) else {}", "super().observe(batch)", ["tests/strategies/test_online.py"]),
    "cls-er believes the fast one": ("strategies/cls_er.py", "torch.where(surer, slow, fast)", "fast", ["tests/strategies/test_online.py"]),
    "cls-er's averages jump": ("strategies/cls_er.py", "min(1 - 1 / (self.steps + 1), self.options.decay)", "self.options.decay", ["tests/strategies/test_online.py"]),
    "cls-er predicts with the network": ("strategies/cls_er.py", "scores: Tensor = self.slow(images)", "scores: Tensor = self.net(images)", ["tests/strategies/test_online.py"]),
    "clib's most important goes": ("strategies/clib.py", "slot = min(largest, key=", "slot = max(largest, key=", ["tests/strategies/test_online.py"]),
    "clib credits the whole fall": ("strategies/clib.py", "(1 - keeps) * difference", "difference", ["tests/strategies/test_online.py"]),
    "clib's rates are never compared": ("strategies/clib.py", "if p < 0.05:", "if False:", ["tests/strategies/test_online.py"]),
    "clib counts new samples' falls": ("strategies/clib.py", "if slot not in self.fresh]", "]", ["tests/strategies/test_online.py"]),
    "priors of nothing compete": ("strategies/logit_adjustment.py", "combined.labels, self.counts > 0)", "combined.labels)", ["tests/strategies/test_imbalance.py"]),
    "priors are added to scores": ("strategies/logit_adjustment.py", "scores = scores - self", "scores = scores + self", ["tests/strategies/test_imbalance.py"]),
    "priors in loss and scores": ("strategies/logit_adjustment.py", 'if self.options.where == "scores":\n            scores', 'if True:\n            scores', ["tests/strategies/test_imbalance.py"]),
    "windows never forget": ("strategies/logit_adjustment.py", "fresh - self.latest[row]", "fresh", ["tests/strategies/test_imbalance.py"]),
    "smote goes past its neighbour": ("streamlab/parts/resampling.py", "start + steps *", "start + 2 * steps *", ["tests/strategies/test_imbalance.py"]),
    "smote's nearest is itself": ("streamlab/parts/resampling.py", '    apart.fill_diagonal_(float("inf"))\n', "", ["tests/strategies/test_imbalance.py"]),
    "undersampling ignores its ratio": ("streamlab/parts/resampling.py", ".min()) * ratio)", ".min()))", ["tests/strategies/test_imbalance.py"]),
    "the head is retrained in place": ("strategies/head_retraining.py", "parameters = list(self.classifier.parameters())", "self.classifier = self.net.head; parameters = list(self.classifier.parameters())", ["tests/strategies/test_imbalance.py"]),
    "the classifier goes on from itself": ("strategies/head_retraining.py", "        self.classifier.load_state_dict(self.net.head.state_dict())\n", "", ["tests/strategies/test_imbalance.py"]),
    "a tail over tasks is one": ("streamlab/stream_options.py", 'Draws(seed, "plan", "distribution", number)', 'Draws(seed, "plan", "distribution")', ["tests/scenarios/test_tasks.py"]),
    "macro std without weights": ("streamlab/evaluation/accuracy.py", "sizes[tested] / sizes[tested].sum(1, keepdims=True)", "(sizes[tested] > 0) / (sizes[tested] > 0).sum(1, keepdims=True)", ["tests/streamlab/test_evaluation.py"]),
    "nc-fscil's mixed batches count once": ("strategies/nc_fscil.py", "+ again * of(projected", "+ 0 * of(projected", ["tests/strategies/test_fscil.py"]),
    "nc-fscil without the shortcut of its projection": ("strategies/nc_fscil.py", "self.deep(features) + self.direct(features)", "self.deep(features) + 0 * self.direct(features)", ["tests/strategies/test_fscil.py"]),
    "nc-fscil never cools down": ("strategies/nc_fscil.py", "return warm * LEAST / 10", "return warm * LEAST", ["tests/strategies/test_fscil.py"]),
    "nc-fscil without a warm-up": ("strategies/nc_fscil.py", "max(0.0, 1 - step / WARM_UP)", "0", ["tests/strategies/test_fscil.py"]),
    "nc-fscil weighs samples alike": ("strategies/nc_fscil.py", "return len(labels) / ((counts > 0).sum() * counts[labels])", "return torch.ones_like(labels)", ["tests/strategies/test_fscil.py"]),
    "nc-fscil copies no means": ("strategies/nc_fscil.py", "novel.repeat(_of_session(self.options.copies, number))", "novel", ["tests/strategies/test_fscil.py"]),
    "nc-fscil forgets the base's means": ("strategies/nc_fscil.py", "kept = torch.cat([novel.repeat(_of_session(self.options.copies, number)), base])", "kept = torch.cat([novel.repeat(_of_session(self.options.copies, number)), base[:0]])", ["tests/strategies/test_fscil.py"]),
    "nc-fscil halves a row with itself": ("strategies/nc_fscil.py", "(projected + projected[order]) / 2", "(projected + projected) / 2", ["tests/strategies/test_fscil.py"]),
    "a frame that is not centred": ("streamlab/parts/equiangular.py", "(directions - directions.mean(0))", "(directions)", ["tests/strategies/test_fscil.py"]),
    "resnet12 with plain relus": ("streamlab/nets/resnet12.py", "F.leaky_relu(self.body(images) + self.shortcut(images), SLOPE)", "F.relu(self.body(images) + self.shortcut(images))", ["tests/streamlab/test_nets.py"]),
    "x-der brings nothing down": ("strategies/x_der.py", 'logits * share[:, None]', 'logits', ["tests/strategies/test_online.py"]),
    "x-der renews whenever drawn": ("strategies/x_der.py", 'torch.where((chances * draws[rows] < 1)[:, None], made, old)', 'made', ["tests/strategies/test_online.py"]),
    "x-der's past keeps its level": ("strategies/x_der.py", 'past = brought_down(logits[:, : self.past], own, self.options.gamma)', 'past = logits[:, : self.past]', ["tests/strategies/test_online.py"]),
    "x-der without a margin": ("strategies/x_der.py", 'outputs[:, self.seen :].max(1).values + self.options.margin - own', 'outputs[:, self.seen :].max(1).values - own', ["tests/strategies/test_online.py"]),
    "x-der's classes keep their numbers": ("strategies/x_der.py", 'return logits[:, self.column]', 'return logits', ["tests/strategies/test_online.py"]),
    "x-der's contrast is of one block": ("strategies/x_der.py", 'return torch.stack(found).mean()', 'return found[0]', ["tests/strategies/test_online.py"]),
    "x-der never forgets how often it drew": ("strategies/x_der.py", '        self.buffer.extras["draws"].zero_()\n', '', ["tests/strategies/test_online.py"]),
    "x-der passes nothing of the batch beside exemplars": ("strategies/x_der.py", 'beside = batch.images[: size // self.number] if', 'beside = batch.images[:0] if', ["tests/strategies/test_online.py"]),
    "running statistics move anyway": ("streamlab/parts/passes.py", "        module.track_running_stats = False\n", "        pass\n", ["tests/strategies/test_online.py"]),
    "ocm's own column is like any other": ("streamlab/parts/mutual_information.py", '_surprise(similar, temperature, itself=False), len(similar) // 2', '_surprise(similar, temperature, itself=True), len(similar) // 2', ["tests/strategies/test_online.py"]),
    "ocm's pairs count nothing": ("streamlab/parts/mutual_information.py", '2 * _of_class(surprise, labels) + others.mean()', '2 * _of_class(surprise, labels)', ["tests/strategies/test_online.py"]),
    "ocm compares projections alone": ("streamlab/parts/mutual_information.py", 'return projected @ projected.T + projected @ part.T', 'return projected @ projected.T', ["tests/strategies/test_online.py"]),
    "ocm turns one half alone": ("streamlab/parts/turning.py", 'torch.cat([left_turned, right_turned], 3)', 'torch.cat([left_turned, right], 3)', ["tests/strategies/test_online.py"]),
    "ocm's logits of all classes stay": ("strategies/ocm.py", 'squares = ((logits - logits_before).square() * self.old).sum(1) / self.old.sum().clamp(min=1)', 'squares = (logits - logits_before).square().mean(1)', ["tests/strategies/test_online.py"]),
    "ocm's old network is in evaluation": ("strategies/ocm.py", 'self.before = frozen_copy(self.net).train()', 'self.before = frozen_copy(self.net)', ["tests/strategies/test_online.py"]),
    "ocm replays whatever it has": ("strategies/ocm.py", 'self.buffer.draw(min(self.options.replay_size, self.options.per_class * len(self.known)))', 'self.buffer.draw(self.options.replay_size)', ["tests/strategies/test_online.py"]),
    "cec's members look at nothing": ("strategies/cec.py", 'weights.softmax(2) @ members(self.value)', '0 * (weights.softmax(2) @ members(self.value))', ["tests/strategies/test_fscil.py"]),
    "cec turns no class": ("strategies/cec.py", 'return ways[quarters - 1,', 'return ways[0 * quarters,', ["tests/strategies/test_fscil.py"]),
    "cec's graph has the backbone's rate": ("strategies/cec.py", '(options.rate, options.graph_rate)\n', '(options.rate, options.rate)\n', ["tests/strategies/test_fscil.py"]),
    "cec's rates stay": ("strategies/cec.py", 'options.gamma**falls', 'options.gamma**0', ["tests/strategies/test_fscil.py"]),
    "cec's statistics move": ("strategies/cec.py", '        self.train_mode(False)\n', '        self.train_mode(True)\n', ["tests/strategies/test_fscil.py"]),
    "cec plays no sessions": ("strategies/cec.py", '        if view.number == 0:\n            self.play(view)\n', '', ["tests/strategies/test_fscil.py"]),
    "cec's queries are compared with plain means": ("strategies/cec.py", 'evolved[:, -1:], evolved[:, :-1], dim=2', 'evolved[:, -1:], means.expand(len(features), -1, -1), dim=2', ["tests/strategies/test_fscil.py"]),
    "closer draws classes apart": ("strategies/closer.py", '- self.between * mean_cosine_between', '+ self.between * mean_cosine_between', ["tests/strategies/test_fscil.py"]),
    "closer's pairs are of any labels": ("strategies/closer.py", 'unlike = (labels[:, None] != labels).triu()', 'unlike = (labels[:, None] == labels[:, None] + 0 * labels).triu()', ["tests/strategies/test_fscil.py"]),
    "closer's contrast knows labels": ("strategies/closer.py", 'supervised_contrastive_loss(views, images_apart, TEMPERATURE)', 'supervised_contrastive_loss(views, labels, TEMPERATURE)', ["tests/strategies/test_fscil.py"]),
    "auto-augment whatever the chance": ("streamlab/augmentation/operations.py", "return made if self.chance == 1 else made.where(some(uniforms[:, 5:], self.chance), images)", "return made", ["tests/streamlab/test_operations.py"]),
    "precision of novel above known": ("streamlab/evaluation/novelty.py", "(above[0] / (above[0] + above[1]))", "(above[1] / (above[0] + above[1]))", ["tests/streamlab/test_evaluation.py"]),
    "precision without ties": ("streamlab/evaluation/novelty.py", "np.searchsorted(np.sort(part), known)", "np.searchsorted(np.sort(part), known, 'right')", ["tests/streamlab/test_evaluation.py"]),
    "onpro's prototypes are of one view": ("strategies/onpro.py", 'self.prototypes = ((first + second) / 2).detach()', 'self.prototypes = first.detach()', ["tests/strategies/test_online.py"]),
    "onpro tells a prototype from itself": ("strategies/onpro.py", 'masked_fill(itself | ~there', 'masked_fill(~there', ["tests/strategies/test_online.py"]),
    "onpro mixes from the first batch on": ("strategies/onpro.py", 'self.buffer.draw(size), not first)', 'self.buffer.draw(size), True)', ["tests/strategies/test_online.py"]),
    "onpro's mixtures are of their first class": ("strategies/onpro.py", 'torch.lerp(each, other, learned.shares).mean()', 'each.mean()', ["tests/strategies/test_online.py"]),
    "onpro's similarities have all their weight": ("strategies/onpro.py", 'options.similarity * new.similar', 'new.similar', ["tests/strategies/test_online.py"]),
    "onpro mixes any pair alike": ("strategies/onpro.py", 'chances = (1 / torch.pdist(torch.stack(prototypes))).softmax(0)', 'chances = (0 / torch.pdist(torch.stack(prototypes))).softmax(0)', ["tests/strategies/test_online.py"]),
    "onpro mixes by any share": ("strategies/onpro.py", '(drawn * self.options.most * torch.rand(plain))', '(drawn * torch.rand(plain))', ["tests/strategies/test_online.py"]),
    "onpro's class between is one of both": ("strategies/onpro.py", 'return torch.lerp(self.labels.to(self.shares), self.others.to(self.shares), self.shares)', 'return self.labels.to(self.shares)', ["tests/strategies/test_online.py"]),
    "x-der knows no guests": ("strategies/x_der.py", 'sorted({*view.classes, *torch.unique(view.labels).tolist()})', 'sorted(view.classes)', ["tests/strategies/test_online.py"]),
    "x-der's statistics stay without replay": ("strategies/x_der.py", 'self.options.align and replays', 'self.options.align and self.number > 0', ["tests/strategies/test_online.py"]),
    "x-der divides by nothing": ("strategies/x_der.py", 'torch.where(largest == 0, 1.0, largest)', 'largest', ["tests/strategies/test_online.py"]),
    "ocm divides by nothing": ("strategies/ocm.py", 'self.old.sum().clamp(min=1)', 'self.old.sum()', ["tests/strategies/test_online.py"]),
    "cec judges by what never learned": ("strategies/cec.py", 'if not self.played:', 'if False:', ["tests/strategies/test_fscil.py"]),
    "cec plays with classes too small": ("strategies/cec.py", 'if len(images) > options.shot', 'if len(images)', ["tests/strategies/test_fscil.py"]),
    "alice without a margin": ("strategies/alice.py", "cosines - margin * own", "cosines - 0 * own", ["tests/strategies/test_fscil.py"]),
    "alice's mixtures share rows": ("strategies/alice.py", "(2 * self.base - first - 1) * first // 2", "0 * first", ["tests/strategies/test_fscil.py"]),
    "alice mixes by any share": ("strategies/alice.py", "    share = torch.where((share < 0.4) | (share > 0.6), 0.5, share)\n", "", ["tests/strategies/test_fscil.py"]),
    "alice mixes a class with itself": ("strategies/alice.py", "unlike = labels[one] != labels[other]", "unlike = one != other", ["tests/strategies/test_fscil.py"]),
    "alice's means are of any samples": ("strategies/alice.py", "cosines.topk(", "(0 * cosines).topk(", ["tests/strategies/test_fscil.py"]),
    "both views are one": ("streamlab/simulator/fit.py", '*([again] if again else [])', '*[]', ["tests/strategies/test_fscil.py"]),
    "der++ replays without metric terms": ("strategies/der_plus_plus.py", "if self.options.wanted:", "if False:", ["tests/strategies/test_equations.py"]),
    "prototypes are left out of metric terms": ("strategies/prototype_replay.py", "if self.options.wanted:", "if False:", ["tests/strategies/test_equations.py"]),
    "wa's terms end with the first session": ("strategies/wa.py", '"distillation": lambda_ * kd_loss, **terms}', '"distillation": lambda_ * kd_loss}', ["tests/strategies/test_equations.py"]),
    "tolerance of all pairs": ("streamlab/evaluation/geometry.py", "alike = pairs & (places[:, None] == places)", "alike = pairs", ["tests/strategies/test_episodes.py"]),
    "base and novel are one group": ("streamlab/evaluation/geometry.py", '("novel", ~in_base[labels])', '("novel", in_base[labels])', ["tests/strategies/test_episodes.py"]),
    "new rows are mixed too": ("strategies/wise_ft.py", "value[~self.learned] = after[name][~self.learned]", "pass", ["tests/strategies/test_equations.py"]),
    "weights are mixed the other way": ("strategies/wise_ft.py", "old.to(now.dtype), 1 - alpha)", "old.to(now.dtype), alpha)", ["tests/strategies/test_equations.py"]),
    "a clock is not told in the table": ("streamlab/report/tables.py", "    if granted(panel):\n        notes", "    if False:\n        notes", ["tests/streamlab/test_report.py"]),
    "gss keeps what is alike": ("strategies/gss.py", "if event < chance_to_go", "if event >= chance_to_go", ["tests/strategies/test_online.py"]),
    "gss looks at every batch": ("strategies/gss.py", "self.gradient(batch))) < 0:", "self.gradient(batch))) < 9:", ["tests/strategies/test_online.py"]),
    "gss draws by raw scores": ("strategies/gss.py", "np.argsort(waits / scaled,", "np.argsort(waits / (scores + 1),", ["tests/strategies/test_online.py"]),
    "gss compares one group": ("strategies/gss.py", "for i in range(groups)]", "for i in range(1)]", ["tests/strategies/test_online.py"]),
    "aser's far neighbours count": ("strategies/aser.py", "place.clamp(max=k) / (place * k)", "1 / k", ["tests/strategies/test_online.py"]),
    "aser's rare classes do not judge": ("strategies/aser.py", "*(cut + stay + row for row in rare)", "", ["tests/strategies/test_online.py"]),
    "aser replays what is worth least": ("strategies/aser.py", "score.argsort(descending=True", "score.argsort(descending=False", ["tests/strategies/test_online.py"]),
    "aser judges while it fills": ("strategies/aser.py", "if self.fills else", "if not len(self.buffer) else", ["tests/strategies/test_online.py"]),
    "aser forgets whose slot it was": ("strategies/aser.py", "for slot in slots if slot not in taken]", "for slot in slots]", ["tests/strategies/test_online.py"]),
    "clib offers every update": ("strategies/clib.py", "            self.offered = True\n", "", ["tests/strategies/test_online.py"]),
    "distillation among all": ("streamlab/parts/losses.py", "    if among is not None:\n        student, teacher", "    if False:\n        student, teacher", METHODS),
    "gradients stay after a step": ("streamlab/learner.py", "                self.apply_gradients()\n        self.optimizer.zero_grad()", "                self.apply_gradients()", ["tests/streamlab/test_memory.py"]),
    "the order of arrays is lost": ("streamlab/memory/state.py", "strides = None if value.flags.c_contiguous else list(value.strides)", "strides = None", ["tests/streamlab/test_memory.py"]),
    "the order of tensors is lost": ("streamlab/memory/state.py", "strides = None if dense.is_contiguous() else list(dense.stride())", "strides = None", ["tests/streamlab/test_memory.py"]),
    "hooks are not looked at": ("streamlab/simulator/outside.py", '", ".join(hooks_of(network))', '""', ["tests/streamlab/test_failures.py"]),
    "closures are not looked at": ("streamlab/simulator/outside.py", "*_closed_over(value), ", "", ["tests/streamlab/test_failures.py"]),
    "helper classes are not looked at": ("streamlab/simulator/outside.py", "{} if value in classes else marks.of_class(value)", "{}", ["tests/streamlab/test_failures.py"]),
    "steps are timed with empty memories": ("streamlab/experiments/pilot.py", "    if fresh.strategy.account.buffers and most > 0:", "    if False:", ["tests/streamlab/test_pilot.py"]),
    "gradients are lost": ("streamlab/memory/state.py", "value.grad if value.is_leaf else None", "None", ["tests/streamlab/test_memory.py"]),
    "one sample alone": ("streamlab/simulator/single.py", "if not alone or strategy.account.buffers or", "if True or", ["tests/streamlab/test_failures.py"]),
    "the oldest stays in the cache": ("streamlab/cached.py", "left[0].used < recent", "True", ["tests/streamlab/test_cached.py"]),
    "a failed seed is averaged": ("cli/table.py", 'if run.status != "failed"]\n', "]\n", ["tests/cli/test_table.py"]),
    "an unfinished run is read unseen": ("streamlab/runs/folder.py", "            if other is not None:", "            if False:", ["tests/streamlab/test_seals.py"]),
    "a wait is not seen": ("streamlab/check/pretended.py", 'tally.add("wait", "a mask as an index")', "pass", ["tests/streamlab/test_accelerator.py"]),
    "devices may mix": ("streamlab/check/pretended.py", "if here and name not in _MIXED and any(", "if False and any(", ["tests/streamlab/test_accelerator.py"]),
    "joint on scaled logits": ("strategies/joint.py", 'return {"task": self.cross', 'return {"task": 2 * self.cross', METHODS),
    "l2p pushes": ("strategies/l2p.py", "self.details.pull * near", "-self.details.pull * near", METHODS),
    "linear-probe among all": ("strategies/linear_probe.py", "combined.labels, self.exposed)", "combined.labels)", METHODS),
    "lwf without its weight": ("strategies/lwf.py", "self.options.weight * kd_loss", "kd_loss", METHODS),
    "maml by sums": ("strategies/maml.py", "torch.stack(losses).mean()", "torch.stack(losses).sum()", METHODS),
    "mas by |o|": ("strategies/mas.py", "logits.square().sum()", "logits.abs().sum()", METHODS),
    "memo's other classes": ("strategies/memo.py", "self.current_classes, seen,", "seen, seen,", METHODS),
    "meta-sgd by sums": ("strategies/meta_sgd.py", "torch.stack(losses).mean()", "torch.stack(losses).sum()", METHODS),
    "mir takes the least": ("strategies/mir.py", "(after - before).topk", "(before - after).topk", METHODS),
    "mvp without compensation": ("strategies/mvp.py", "eps=1e-8) + margin", "eps=1e-8)", METHODS),
    "mvp's choice by distance alone": ("strategies/mvp.py", "distance * (counts + 1) if contrastive", "distance if contrastive", METHODS),
    "mvp's gamma": ("strategies/mvp.py", "alpha * scores**gamma", "alpha * scores", METHODS),
    "ncm takes the farthest": ("streamlab/parts/prototypes.py", "- 2 * features @", "+ 2 * features @", METHODS),
    "prototype-replay without weight": ("strategies/prototype_replay.py", "details.prototype_weight * replay", "replay", METHODS),
    "proto-cosine's means are sums": ("streamlab/parts/prototypes.py", "sums / torch.bincount(place)[:, None]", "sums", METHODS),
    "class means are sums": ("streamlab/parts/prototypes.py", "features.mean(0)", "features.sum(0)", METHODS),
    "protonet without temperature": ("strategies/protonet.py", "_logits(query, prototypes) / self.options.temperature", "_logits(query, prototypes)", METHODS),
    "ranpac without a square": ("strategies/ranpac.py", "/ freedom.square())", "/ freedom)", METHODS),
    "si against the gradient": ("strategies/si.py", "gradients, moves, value=-1)", "gradients, moves, value=1)", METHODS),
    "si without c": ("strategies/si.py", "self.options.strength * self.regulariser", "self.regulariser", METHODS),
    "simpleshot uncentred": ("strategies/simpleshot.py", "features - self.mean if", "features if", METHODS),
    "slda without shrinkage": ("strategies/slda.py", "+ self.options.shrinkage * identity", "+ 0 * identity", METHODS),
    "teen without its shift": ("strategies/teen.py", "(1 - shift_weight) * p + shift_weight", "p + shift_weight", METHODS),
    "wa never aligned": ("strategies/wa.py", "lambda_ * kd_loss", "kd_loss", METHODS),
    "a budget whole to each buffer": ("streamlab/account.py", "(budget.bytes - needed) // len(buffers) // _ex", "(budget.bytes - needed) // _ex", KERNEL),
    "exemplars whole to each buffer": ("streamlab/account.py", "total // len(buffers) + (number < total % len(buffers))", "total", KERNEL),
    "the survey leaves prompts out": ("streamlab/memory/ledger.py", 'for kind in ("prompts", "keys", "masks")', 'for kind in ("keys", "masks")', KERNEL),
    "a base's rate by the step": ("streamlab/training.py", "unit=self.rate_by", 'unit="step"', METHODS),
    "a schedule is over the stream": ("streamlab/simulator/pace.py", 'if over == "experience":', "if False:", KERNEL),
    "momentum is kept": ("streamlab/learner.py", "self.optimizer.state.clear()", "pass", KERNEL),
    "the first session decays as all": ("streamlab/simulator/simulation.py", "self.first.of(self.later) if number == 0", "self.later if number == 0", KERNEL),
    "resumed between sessions at the later rate": ("streamlab/simulator/simulation.py", "progress.segment - between", "progress.segment", KERNEL),
    "buffers keep views": ("streamlab/memory/buffer.py", "batch.originals.index_select", "batch.images.index_select", KERNEL),
    "an exemplar has one view": ("streamlab/augmentation/views.py", "self.served + len(images)", "self.served", KERNEL),
    "remembered in every epoch": ("streamlab/simulator/stream_simulation.py", "if progress.epoch == self.epochs_of(progress.segment) - 1:", "if True:", KERNEL),
    "a picture's middle is its corner": ("streamlab/data/reading.py", "round((height - self.crop) / 2)", "0", DATA),
    "16 bits are cut": ("streamlab/data/reading.py", "((levels + 128) // 257)", "np.minimum(levels, 255)", DATA),
    "icons lie on black": ("streamlab/data/reading.py", '"RGBA", upright.size, "white"', '"RGBA", upright.size, "black"', DATA),
    "a decoding begins anew": ("streamlab/data/pictures.py", "range(state[split], len(files), _CHUNK)", "range(0, len(files), _CHUNK)", DATA),
    "held out by name alone": ("streamlab/data/held_out.py", 'f"{of_class}/{path}"', "path", DATA),
    "cub's splits are exchanged": ("streamlab/data/picture_sets.py", 'trains[number] == "1"', 'trains[number] == "0"', DATA),
    "core50's sessions": ("streamlab/data/picture_sets.py", "_TEST_SESSIONS = (3, 7, 10)", "_TEST_SESSIONS = (3, 7, 9)", DATA),
    "labels in the order of text": ("streamlab/data/npz.py", "list(in_natural_order(values.tolist()))", "values.tolist()", DATA),
    "supports are passed once": ("strategies/matchingnet.py", "_passed(support.flip(1), back).flip(1)", "_passed(support, back)", EPISODES),
    "cosines below 0 count": ("strategies/matchingnet.py", "cosines.relu()", "cosines", EPISODES),
    "relations forget slowly": ("strategies/relationnet.py", "momentum=1.0", "momentum=0.1", EPISODES),
    "attention without a residual": ("strategies/feat.py", "self.normed(found + points)", "self.normed(found)", EPISODES),
    "the contrast of classes mixed": ("strategies/feat.py", "labels.argsort(dim=1, stable=True)", "labels.argsort(dim=1, descending=True)", EPISODES),
    "the machine has no identity": ("streamlab/parts/svm.py", "kernel = kernel + torch.eye", "kernel = kernel + 0 * torch.eye", EPISODES),
    "the machine stops at once": ("streamlab/parts/svm.py", "iterations: int = 150", "iterations: int = 3", EPISODES),
    "ridge by half": ("strategies/metaoptnet.py", "2 * members", "members", EPISODES),
    "other devices without antialias": ("streamlab/augmentation/geometry.py", "step.clamp(min=1)", "1.0", VIEWS),
    "crops of wholes lie in the middle": ("streamlab/augmentation/operations.py", "uniforms[number : number + 1]", "0.5 + 0 * uniforms[number : number + 1]", WHOLES),
    "si-blurry's part by another seed": ("streamlab/data/picture_sets.py", "manual_seed(0)", "manual_seed(1)", PICTURES),
    "floats are cut": ("streamlab/data/npz.py", "np.floor(array * scale + 0.5)", "np.floor(array * scale)", DATA),
}  # fmt: skip


def copied(place: Path) -> Path:
    """The project in a folder of its own, whose packages are its own too."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    for name in ("strategies", "scenarios", "cli"):
        (place / "streamlab" / name).symlink_to(place / name)
    return place


def fallen(name: str) -> str:
    """The first test that notices a mutant; nothing where none does."""
    file, old, new, tests = MUTANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        place = copied(Path(folder))
        text = (place / file).read_text(encoding="utf-8")
        if old not in text:
            raise SystemExit(f"{name}: {file} has no {old!r}")
        (place / file).write_text(text.replace(old, new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        return found[1] if found else ""


def main() -> None:
    names = sys.argv[1:] or list(MUTANTS)
    survivors = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, found in zip(names, pool.map(fallen, names), strict=True):
            print(f"{name}: {found or 'NO TEST NOTICES'}", flush=True)
            survivors += [] if found else [name]
    if survivors:
        raise SystemExit(f"{len(survivors)} of {len(names)} mutants live")


if __name__ == "__main__":
    main()
