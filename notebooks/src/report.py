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

# %% [markdown]
# # Report of a study
#
# **One notebook, many parameters: this one reads what a sweep left, and tells you what it says.** The same as a page:
# `devilgan report FOLDER`.
#
# **Time and hardware:** seconds for a study that is there; a minute if a small one has to be run first.

# %% tags=["parameters"]
profile = "workshop"  # how long it may take: smoke | workshop | full
folder = ""  # of a study that devilgan sweep has made; empty: a small one is run here

# %%
import tempfile
from pathlib import Path

import pandas as pd

from devilgan_lite.apps import studies
from devilgan_lite.apps.course import configure, figure, finish, table
from devilgan_lite.apps.studies import PROJECT, collect, study_report

config = configure(profile)
SMALL = {
    "title": "The closed form, three weights of fidelity",
    "notebook": "attack.py",
    "parameters": {"attack": "closed-form", "samples": 300 if config.profile == "smoke" else 1_000, "device": "cpu"},
    "grid": {"lam": [0.1, 10.0] if config.profile == "smoke" else [0.1, 1.0, 10.0]},
    "seeds": 1 if config.profile == "smoke" else 3,
}
if folder:
    place = next((path for path in (Path(folder), PROJECT / folder) if (path / "study.json").is_file()), None)
    if place is None:
        raise ValueError(f"folder={folder!r} holds no study; name one that devilgan sweep has made.")
else:
    study = studies.study_of(SMALL, "small", PROJECT / "studies")
    done = studies.sweep(study, tempfile.mkdtemp(prefix="devilgan-"))
    place = done.folder
    print(f"{done.finished} of {done.total} runs finished, {done.failed} failed")

# %% [markdown]
# ## One tidy table
#
# One line a run: what was asked for, what came out, how it went. Failed runs stay in it, with their reason.

# %%
tidy = collect.tidy(place)
by = study_report.groups(tidy, collect.parameters_in(place))
print(
    f"{tidy['id'].nunique()} runs: {', '.join(f'{n} {status}' for status, n in tidy['status'].value_counts().items())}"
)
table(tidy.drop(columns=["attempt"]).head(12), "The first lines")

# %% [markdown]
# ## Means, and how sure we are of them
#
# Over seeds, with half the 95 % confidence interval by Student's *t*. With three seeds that is 4.3 times the standard
# error: three is few, and the interval says so.

# %%
columns = collect.measured(tidy, [*by, *collect.parameters_in(place, all_of_them=True)])
summary = collect.averages(tidy, by, columns)
table(summary.set_index(by) if by else summary, "Means over seeds")

# %% [markdown]
# ## What it looks like

# %%
shown = [made for made in (study_report.frontier(summary, by), study_report.heat_map(summary, by)) if made is not None]
print(f"{len(shown)} figures: a frontier needs TarDis and ExpDis, else a heat map shows two groups of names")
figure(*shown[0]) if shown else None

# %%
figure(*shown[1]) if len(shown) > 1 else None

# %% [markdown]
# ## The runs themselves
#
# Every run keeps its executed notebook, its numbers and its log.

# %%
links = tidy.drop_duplicates("id")[["id", "notebook", "status"]]
table(links.head(12).assign(folder=[f"runs/{one}" for one in links["id"].head(12)]), "Where the runs are")

# %%
good = tidy[tidy["status"] == "finished"]
assert len(tidy), "the study has no runs"
finish(
    config,
    {
        "runs": int(tidy["id"].nunique()),
        "finished": int(good["id"].nunique()),
        "groups": len(summary),
        "means": {str(name): pd.to_numeric(summary[name]).mean() for name in columns},
    },
)
