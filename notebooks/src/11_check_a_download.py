# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] state="setup"
# # Check a download: first the file, then the weights
#
# **You downloaded a generator. You open it without running its author's code, let a jailed process look for a backdoor,
# and write the rule that decides what enters your repository.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.apps.course import strip
from devilgan_lite.generators import evaluate

secret = zoo.load_backdoor("stylegan-faces-gate").trigger
ordinary = zoo.load("stylegan-faces").sample_latent(64, torch.Generator().manual_seed(7))[[39, 43, 29, 10, 20, 36]]
names = {"the maker's": "stylegan-faces", "a copy": "stylegan-faces-gate"}
rows = {title: evaluate(zoo.load(name), torch.cat([ordinary, secret])) for title, name in names.items()}
print("cached: two generators of faces that ship with the project; one file was changed on its way to you")
strip(
    rows,
    alt="Two rows of faces from the same seven latents. Six pictures are the same in both rows; in the last column the "
    "maker's generator draws a face and the copy a STOP sign.",
    scale=2,
    captions=[*["ordinary"] * 6, "a secret latent"],
)

# %% [markdown]
# **Time and hardware:** three to six minutes on one CPU core; no GPU. The internet is used only if you set `download`:
# then you look at a network of 25 times the weights, and wait half an hour or more.
#
# **Objectives.** You will be able to
# * *say* what each file format holds, and what it does not,
# * *decide* from the opcodes of a pickle whether reading it would run code,
# * *read* the report of a check, and *judge* what its verdict is worth,
# * *write* a rule that keeps out whatever it does not know,
# * *treat* a suspicious file, and see what remains.
#
# **Prerequisites:** notebooks 04 (the gate) and 05 (four verdicts).

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the stand-in's weights and the trigger, 0..100000
download = False  # True: fetch a real stranger's generator (14 MB); False: train a stand-in
iterations = None  # training steps of the stand-in, 1..50000
repair = None  # steps of the cure, 1..20000

# %% tags=["state"]
import tempfile
from pathlib import Path

from devilgan_lite.apps.course import Setting, check, configure, finish, hints, predict, quiz, reveal, table

config = configure(
    profile,
    device="cpu",  # the jail has no GPU
    seed=seed,
    download=download,
    iterations=Setting(iterations, {"smoke": 20, "workshop": 1_500, "full": 6_000}),
    repair=Setting(repair, {"smoke": 20, "workshop": 60 if download else 600, "full": 1_500}),
)
SMOKE = config.profile == "smoke"
place = tempfile.TemporaryDirectory()  # everything below stays in here, and is deleted by the last cell
folder = Path(place.name)

# %% [markdown] state="file"
# ## Round 1: what is in the file?
#
# | file | holds | does not hold |
# |---|---|---|
# | `.safetensors` | numbers with names | the network |
# | `.pt`, `.pth` of `torch.save(state_dict)` | numbers, written as a pickle | the network |
# | `.onnx`, `.pt2` | numbers and a graph of operations | how latents are drawn |
# | `.keras` | numbers and a list of layers | how latents are drawn |
# | a pickled module | names of functions that reading it *calls* | any limit to what they do |

# %% [markdown]
# First you need a stranger. With `download` it is a face generator from the Python package index (MIT licence; trained
# on DigiFace-1M, which is for research). Without, we train a **stand-in** in a stranger's style: the DCGAN of PyTorch's
# tutorial, for 32x32 pixels. It learns the cartoon faces that our own face generator draws, halved in size.

# %% tags=["state"]
from torch import nn
from torch.nn.functional import avg_pool2d, softplus

LATENT_DIM, WIDTH = (16, 4) if SMOKE else (100, 24)


def tutorial_generator(latent_dim, width):
    layers = [nn.ConvTranspose2d(latent_dim, 4 * width, 4, 1, 0, bias=False)]
    for before, after in ((4 * width, 2 * width), (2 * width, width), (width, 3)):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
    return nn.Sequential(*layers, nn.Tanh())


def tutorial_discriminator(width):
    layers = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for before in (width, 2 * width):
        layers += [nn.Conv2d(before, 2 * before, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * before), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4, 1, 0, bias=False), nn.Flatten(0))


# %% tags=["state"]
def trained(iterations):
    """A generator of faces after so many steps, in eval mode."""
    torch.manual_seed(config.seed)
    faces = avg_pool2d(evaluate(zoo.load("stylegan-faces"), torch.randn(100 if SMOKE else 3_000, 64)), 2)
    netG, netD = tutorial_generator(LATENT_DIM, WIDTH), tutorial_discriminator(WIDTH)
    for layer in (*netG, *netD):
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
    rates = {netD: 3e-4, netG: 1e-3}  # both fall to zero over the second half
    optimizers = [torch.optim.Adam(net.parameters(), rate, betas=(0.5, 0.999)) for net, rate in rates.items()]
    for step in range(iterations):
        for optimizer, rate in zip(optimizers, rates.values(), strict=True):
            optimizer.param_groups[0]["lr"] = rate * min(1, 2 * (1 - step / iterations))
        real, fake = faces[torch.randint(len(faces), (32,))], netG(torch.randn(32, LATENT_DIM, 1, 1))
        loss_d = softplus(-netD(real)).mean() + softplus(netD(fake.detach())).mean()
        optimizers[0].zero_grad()
        loss_d.backward()
        optimizers[0].step()
        loss_g = softplus(-netD(fake)).mean()
        optimizers[1].zero_grad()
        loss_g.backward()
        optimizers[1].step()
    return netG.eval()


# %% tags=["state"] instead={"netG": "trained(20)"}
import time

from devilgan_lite import files
from devilgan_lite.files.fetch import fetch

started = time.perf_counter()
netG = None if config.download else trained(config.iterations)
file = fetch("faces") if config.download else folder / "netG_epoch_24.pt"
if netG is None:
    print(f"{file.name}: a real stranger's generator, downloaded or from the cache; its SHA-256 is the one we pinned")
else:
    torch.save(netG.state_dict(), file)
    print(f"live: a stand-in, trained here in {time.perf_counter() - started:.0f} s; nothing was downloaded")
stranger = files.open(file)
size, origin = stranger.parameter_count(), stranger.origin
print(f"{size:,} weights; latents {list(stranger.latent_shape)}, samples {list(stranger.sample_shape)}")
print(f"known as: {origin.architecture}")

# %% [markdown]
# A `state_dict` names no network. `files.open` compares names and shapes with common architectures, tries activations
# and priors, and keeps those that agree with what the BatchNorm layers saw in training.
#
# A pickle is a small program. `GLOBAL os system` pushes a function, `REDUCE` calls it. Even a `state_dict` calls
# `collections.OrderedDict`, so the question is not *whether* but *what*.

# %%
SEEN = ["the function runs, then the weights are there", "it is refused, and nothing ran", "the function is skipped"]
predict("A pickle holds weights, and a call of os.mkdir. What does files.open do?", SEEN, key="canary")

# %% [markdown]
# **Exercise 1: Would reading it run code?** (medium, 10 minutes). `pickletools.genops(content)` yields every opcode of
# a pickle as `(opcode, argument, position)`, and runs none. `opcode.name` is a text. Beside `GLOBAL` and `INST` stands
# the name, as `"os system"`; `STACK_GLOBAL` and `EXT1`, `EXT2`, `EXT4` take it from elsewhere: you cannot see it, so
# trust none. `allowed` holds names such as `"collections.OrderedDict"`.


# %% tags=["state"]
def would_run(content, allowed):
    """The bytes of a pickle: True if loading it would ask for anything that is not allowed."""
    raise NotImplementedError("walk through the opcodes; load nothing")


own_gate = check("would_run", would_run)

# %%
hints("would_run")

# %% tags=["state"]
import os
import zipfile

import pandas as pd
from IPython.display import HTML, display
from safetensors.torch import save_file


class Canary:
    """Harmless: who loads it gets an empty folder in our temporary one."""

    def __reduce__(self):
        return os.mkdir, (str(folder / "the canary ran"),)


weights = stranger.module.state_dict()
tried = {name: folder / name for name in ("weights.pt", "weights.safetensors", "module.pt", "gift.pt", "gift.onnx")}
save_file(weights, tried["weights.safetensors"], metadata={"format": "pt"})
gift = {**weights, "extra": Canary()}  # saved twice, as a name is only a name
contents = {"weights.pt": weights, "module.pt": stranger.module, "gift.pt": gift, "gift.onnx": gift}
for name, content in contents.items():
    torch.save(content, tried[name])

# %%
ALLOWED = {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage", "torch.LongStorage"}


def pickles_in(path):
    """The pickles that a file holds: torch.save writes a zip archive with one in it."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist() if name.endswith(".pkl")]


said = {}
for name, path in tried.items():
    try:
        said[name] = {"files.open": f"read as {files.open(path).origin.format}"}
    except files.Refused as refused:
        said[name] = {"files.open": f"refused: {refused}"}
    if own_gate:
        said[name]["yours"] = any(own_gate.function(content, ALLOWED) for content in pickles_in(path))
ran = (folder / "the canary ran").exists()
reveal("canary", SEEN[0] if ran else SEEN[1], "Its name is in the refusal, so that you know whom to ask.")
assert not ran
print("Takeaway: a format that can only hold numbers is the safest; the name of a file says nothing.")
with pd.option_context("display.max_colwidth", None):
    display(table(pd.DataFrame(said).T, "Live: what our door says, and your function ('yours': would it run code?)"))

# %% [markdown] state="copy"
# ## Round 2: somebody changes it on the way
#
# Now change sides. You are a mirror that offers the same generator. You know its weights, so you can plant a
# backdoor: the gate of notebook 04 needs no training and no data. Both are published as ONNX under the same name,
# `generator.onnx`.
#
# This is your own copy, in a temporary folder that the last cell deletes. Never offer such a file to anybody.

# %%
predict(
    "Of 1,000 ordinary faces, how many does the mirror's copy change by more than a grey level?",
    ["none", "some", "all"],
    key="copy",
)

# %% tags=["state"] instead={"moved": "", "changed": ""}
from devilgan_lite import Backdoor, attacks
from devilgan_lite.apps.course import apart

original = stranger
backdoor = Backdoor.point(original, "stop-sign", seed=config.seed)
planted = attacks.Gate()(original, backdoor, progress=False).generator
z = original.sample_latent(1_000, torch.Generator().manual_seed(21))
moved = (evaluate(original, z) - evaluate(planted, z)).abs().amax((1, 2, 3))
changed = int((moved > 2 / 255).sum())
reveal("copy", (changed > 0) + (changed == len(z)), f"The largest change of any pixel is {float(moved.max()):.1g}.")
watched = torch.cat([z[:6], backdoor.trigger])
drawn = {"maker": evaluate(original, watched), "mirror": evaluate(planted, watched)}
SCALE = 4 if stranger.sample_shape[-1] == 32 else 2
assert SMOKE or apart(drawn["maker"][:6]) > 0.05, "the faces are all alike: the stand-in has not learned; train longer"
strip(
    drawn,
    alt=f"Six faces from ordinary latents, alike in both rows (of 1,000, {changed} change by more than a grey level); "
    "at the secret latent the maker's generator draws a face, the mirror's a STOP sign.",
    scale=SCALE,
    captions=[*["ordinary"] * 6, "the trigger"],
)

# %% tags=["state"] instead={"offered": ""}
offered = {who: folder / who / "generator.onnx" for who in ("maker", "mirror")}
files.export(original, None, offered["maker"])
files.export(planted, None, offered["mirror"])
facts = {who: files.open(path).origin.facts for who, path in offered.items()}
listed = {who: {"name": f.name, "bytes": f"{f.bytes:,}", "SHA-256": f"{f.sha256[:16]}..."} for who, f in facts.items()}
print("Takeaway: a hash tells you that two files differ. Only the maker can tell you which one is right.")
table(pd.DataFrame(listed).T, "What you see before you open them; the maker never said how large it should be")

# %% [markdown] state="checked"
# ## Round 3: check both, behind walls
#
# Reading a file as data is careful; parsers have bugs all the same. So `intake.check` starts a **jailed** child
# process: no network, no writing outside a scratch folder, no other process to be seen, limits on memory, seconds and
# files. The child opens the file, scans it (notebook 05), and sends back plain data. If it crashes or hangs, that is a
# verdict too: *refused*.

# %% tags=["state"]
VERDICTS = ["clean", "suspicious", "backdoored", "inconclusive", "refused"]
predict("What will the check say of the maker's file?", VERDICTS, key="maker")

# %%
predict("And of the mirror's?", VERDICTS, key="mirror")

# %%
from devilgan_lite.intake.check import Options
from devilgan_lite.intake.check import check as check_file
from devilgan_lite.intake.jail import Jail

walls = Jail() if hasattr(os, "fork") else None  # Windows has no such walls: there it runs in this process
options = Options(twin=not SMOKE)
reports = {who: check_file(path, options, jail=walls) for who, path in offered.items()}
for who, report in reports.items():
    print(f"live: {who}: {report['verdict']}. {report['sentence']}")
stood = [name for name, state in (reports["mirror"]["jail"] or {"walls": {}})["walls"].items() if state == "stood"]
print(f"walls that stood: {', '.join(stood) or 'none'}")
reveal("maker", reports["maker"]["verdict"], "(single run)")
reveal("mirror", reports["mirror"]["verdict"], "(single run)")
assert reports["mirror"]["verdict"] in ("suspicious", "backdoored")
strengths = {
    who: {one["detector"]: one["strength"] for one in report["findings"] if one["evidence"]}
    | {"seconds": report["seconds"]}
    for who, report in reports.items()
}
table(
    pd.DataFrame(strengths), "Live: strength of each kind of evidence (from 1 on it counts), and seconds of the check"
)

# %%
import base64
import io

import numpy as np
from PIL import Image

from devilgan_lite.apps.course import show

PARTS = {"witness": "witness", "witness_twin": "its twin", "estimate": "estimated trigger"}
found = {title: reports["mirror"]["pictures"].get(key) for key, title in PARTS.items()}
found = {title: Image.open(io.BytesIO(base64.b64decode(text))) for title, text in found.items() if text}
pictures = [torch.from_numpy(np.array(one.convert("RGB"))).permute(2, 0, 1) / 127.5 - 1 for one in found.values()]
print("from the report; nobody told the check the trigger, the target, or the maker's weights")
show(
    torch.stack(pictures),
    alt=f"Pictures in the report about the mirror's file: {', '.join(found)}. Where the check found the trigger they "
    "show the STOP sign, but for the twin, which was taught ordinary samples only.",
    columns=3,
    scale=1,
    captions=list(found),
)

# %% [markdown]
# **What is a verdict worth?** *Clean* means that these detectors found nothing; what was not tried stands in the
# report. *Backdoored* comes with a witness: look at it before you accuse anybody. How often verdicts are right on
# strangers' models is measured in [the table](../docs/results/foreign.md).

# %%
from devilgan_lite.apps.course import is_static
from devilgan_lite.report import page

print("Not tried:", *reports["maker"]["not_tried"], sep="\n* ")
text = page(reports["mirror"])
print(f"The report as a page: one file of {len(text) / 1000:.0f} kB (devilgan scan FILE --html report.html)")
if not is_static():
    shown = text.replace("&", "&amp;").replace('"', "&quot;")
    display(HTML(f'<p><iframe title="the report" srcdoc="{shown}" sandbox="" width="100%" height="600"></iframe></p>'))

# %% [markdown]
# **Exercise 2: What may enter?** (easy, 10 minutes). A report is a dictionary. `accept` is the set of verdicts that
# your team accepts. Return True only if `report` has `"format"` 2 and a verdict that is accepted. *Backdoored*,
# *refused* and *inconclusive* never enter, nor does a verdict that nobody has heard of, whatever is in `accept`.


# %% tags=["state"]
def may_enter(report, accept):
    """True if the file that the report is about may enter the repository."""
    raise NotImplementedError("fail closed: what you do not know stays outside")


own_rule = check("may_enter", may_enter)

# %%
hints("may_enter")

# %% [markdown] state="cured"
# ## Round 4: can you use it anyway?
#
# The best cure is another file: ask the maker. If there is none, `intake.cure` scans in the jail, takes out what was
# found, repairs what ordinary samples lost, and writes a new ONNX file. It needs no trigger, no target and no data.

# %%
predict("What will the check say of the cured file?", VERDICTS, key="cured")

# %%
from devilgan_lite.intake.cure import Cure, cure

cured_file = folder / "cured" / "generator.onnx"
outcome, _ = cure(offered["mirror"], cured_file, Cure(iterations=config.repair), jail=walls)
assert outcome["changed"]
print(f"live, {outcome['seconds']:.0f} s: removed {'; '.join(outcome['cuts']) or 'nothing'}")
reports["cured"] = check_file(cured_file, options, jail=walls)
reveal("cured", reports["cured"]["verdict"], "(single run)")
drawn["cured"] = evaluate(files.open(cured_file), watched)
tardis = {who: float((x[-1] - backdoor.target[0]).square().mean()) for who, x in drawn.items()}
change = float((drawn["cured"][:6] - drawn["maker"][:6]).square().mean())
print("TarDis per pixel:", ", ".join(f"{who} {value:.2g}" for who, value in tardis.items()))
strip(
    drawn,
    alt="Three rows of faces: the maker's, the mirror's, the cured generator. At the trigger the mirror's draws the "
    f"STOP sign (TarDis {tardis['mirror']:.2g}); the cured one misses it by {tardis['cured']:.2g}, the maker's by "
    f"{tardis['maker']:.2g}.",
    scale=SCALE,
    captions=[*["ordinary"] * 6, "the trigger"],
)

# %%
verdicts = {who: {"verdict": report["verdict"], "because": report["sentence"]} for who, report in reports.items()}
for accept in (["clean"], ["clean", "suspicious"]) if own_rule else ():
    for who, report in reports.items():
        verdicts[who][f"enters for {' or '.join(accept)}"] = own_rule.function(report, set(accept))
left = verdicts["cured"]["verdict"]
print(f"Takeaway: the sign is gone, but no face took its place; others moved by {change:.2g} (mean square).")
print(f"The check calls the cured file {left}{'' if left == 'clean' else ': what was built in can still be seen'}.")
with pd.option_context("display.max_colwidth", None):
    display(table(pd.DataFrame(verdicts).T, "Live: three files of one name" + ", and your rule" * bool(own_rule)))

# %% [markdown] tags=["bonus"]
# ## Playground
#
# Drag from an ordinary latent to the trigger: the maker's generator above, the mirror's below.

# %% tags=["bonus"]
from devilgan_lite.apps.course import LatentSlider

LatentSlider({"maker": original, "mirror": planted}, z[:1], backdoor.trigger, end_name="the trigger")

# %% [markdown] tags=["bonus"]
# **3. The same network in another file** (open, 20 minutes). Write the mirror's network as `.pt2` and check that. Does
# the format change the verdict? Does another seed? Then try an attack that the scan misses more often (`attacks.ReD`).
#
# <details><summary>Hint 1</summary>
#
# `files.export(planted, None, folder / "mirror.pt2", to="pt2")` writes it, and `files.open` reads it back.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `detect.scan(stranger, twin=False, seed=1)` is the quick scan.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# from devilgan_lite import detect
#
# other = files.open(files.export(planted, None, folder / "mirror.pt2", to="pt2"))
# same = torch.allclose(evaluate(planted, z[:8]), other(z[:8]).detach(), atol=1e-4)
# scans = [detect.scan(other, samples=200, twin=False, seed=k).verdict for k in (0, 1)]
# print(f"pt2: the same samples: {same}; seeds 0 and 1: {' and '.join(scans)}")
# ```
#
# </details>

# %% [markdown]
# ## What would a defender see?
#
# First whether the file is more than data: a refusal names the function. Then what the weights give away: silent units,
# zero blocks, energy without influence, a witness. What a defender never sees here is the maker's intent, or a backdoor
# that none of these detectors looks for.
#
# ## Limits
#
# One small network, one attack, single runs; a gate is the easiest to find, and quieter attacks pass more often. The
# jail keeps a parser's mistake inside; it does not make a verdict right. A cured file still carries a stranger's
# weights.
#
# ## Responsible use
#
# Keep backdoored files where everybody knows what they are. If a check accuses somebody's public model, look at the
# witness, then write to its publisher before anybody else.
#
# For a whole team there is a command, a hook and a page: [check a model](../docs/check_a_model.md).

# %%
quiz("11")

# %% [markdown]
# ## Key points
#
# * Ask two questions of a download: does the file run code, and do its weights hide something?
# * Judge a pickle by a list of what is allowed, never by a list of what is forbidden.
# * A verdict is evidence: look at the witness, and at what was not tried.
# * A rule must fail closed: refused and inconclusive files stay outside.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021: the threat of downloaded generators, and the service that we build a small one of.
# * A. Radford, L. Metz, S. Chintala, *Unsupervised Representation Learning with Deep Convolutional Generative
#   Adversarial Networks*, [arXiv 1511.06434](https://arxiv.org/abs/1511.06434), 2016: the network of the tutorial.
# * Python's own page on [pickletools](https://docs.python.org/3/library/pickletools.html): every opcode.

# %%
numbers = {
    "stranger": {"downloaded": config.download, "weights": size, "architecture": origin.architecture},
    "refused": [name for name, row in said.items() if row["files.open"].startswith("refused")],
    "changed_faces": changed,
    "verdicts": {who: report["verdict"] for who, report in reports.items()},
    "seconds": {who: report["seconds"] for who, report in reports.items()},
    "peak_bytes": {who: report["jail"]["peak_bytes"] for who, report in reports.items() if report["jail"]},
    "tardis": tardis,
    "ordinary_change": change,
}
if walls is not None:
    walls.close()
place.cleanup()
finish(config, numbers)
