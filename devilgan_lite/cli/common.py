"""What the commands share: errors as sentences, options, and how results are written and printed."""

import contextlib
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from devilgan_lite.checks import cut, nearest, one_of, shown, whole_number

try:
    from typer._click.exceptions import NoArgsIsHelpError, NoSuchOption, UsageError
except ModuleNotFoundError:  # versions of typer that stand on the package click
    from click.exceptions import NoArgsIsHelpError, NoSuchOption, UsageError  # type: ignore[assignment]

ENDINGS = (".safetensors", ".onnx", ".pt2")  # of the files that hold a generator
EXTRAS = {  # what brings a module that is missing; else: notebooks
    **dict.fromkeys(("python_avatars", "resvg_py"), "faces"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "onnx"),
    "h5py": "keras",
    **dict.fromkeys(("fastapi", "multipart", "python_multipart", "sqlalchemy", "uvicorn"), "service"),
}


def one_line(text: str) -> str:
    """``text`` as one line. Words of more than 120 characters are cut: libraries repeat what they get in full."""
    return " ".join(cut(word, 120) for word in text.split())


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Print what is wrong with the input as one sentence, without a traceback, and leave with exit code 2."""
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except NoSuchOption as error:
        options = error.ctx.command.get_params(error.ctx) if error.ctx else []
        valid = [name for one in options for name in (*one.opts, *one.secondary_opts) if name.startswith("-")]
        hint = nearest(error.option_name, valid)
        text = f"No such option: {cut(error.option_name)}; valid: {', '.join(valid)}.{hint}"
    except UsageError as error:
        text = one_line(error.format_message())
    except BrokenPipeError:  # whoever read the output has closed it
        raise
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        missing = str(getattr(error, "name", None) or "").partition(".")[0]  # a module that no extra has brought
        mend = f"{missing} is not installed: pip install 'devilgan_lite[{EXTRAS.get(missing, 'notebooks')}]'."
        text = mend if missing else one_line(str(error))
    else:
        return
    typer.echo(text, err=True)
    raise typer.Exit(2)


class Sentences(TyperGroup):
    """A group of commands whose errors are sentences; an unknown command lists the valid ones."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        with sentences():
            return super().make_context(*args, **settings)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-"):
            one_of("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with sentences():
            return super().invoke(ctx)


def applications() -> Iterator[dict[str, Any]]:
    """What stands in the ``commands.py`` of each application in ``apps``, in the order of the alphabet."""
    for path in sorted(Path(__file__).parents[1].glob("apps/*/commands.py")):
        yield vars(importlib.import_module(f"devilgan_lite.apps.{path.parent.name}.commands"))


def commands(summary: str) -> typer.Typer:
    """An empty group of commands; ``summary`` is the first line of its help."""
    return typer.Typer(
        cls=Sentences,
        help=summary,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _present(device: str) -> str:
    if device not in ("auto", "cpu"):  # every machine has these, so torch need not be imported to know it
        from devilgan_lite.steps import best_device

        best_device(device)
    return device


def _enough(samples: int | None) -> int | None:
    if samples is not None:
        whole_number("samples", samples, 100, 1_000_000)
    return samples


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
SampleCount = Annotated[
    int | None,
    typer.Option(callback=_enough, help="Samples behind the scorecard; default 10,000, or 2,000 without features."),
]
Device = Annotated[str, typer.Option(callback=_present, help="Where to compute: auto, cpu, cuda or mps.")]


def real_for(generator: Any) -> Any:
    """Real samples to measure against, of the data set whose features read what ``generator`` makes; or None.

    What a stranger's generator was trained on, nobody here knows.
    """
    from devilgan_lite import features
    from devilgan_lite.generators import Adopted

    if isinstance(generator, Adopted):
        return None
    return features.real_for(tuple(generator.sample_shape))


def check_out(path: Path | None, name: str = "out", *endings: str) -> None:
    """Refuse, before any work, a ``path`` that could not be written to afterwards; ``name`` is that of its option.

    It must have one of the ``endings``, if there are any.
    """
    if path is None:
        return
    if endings and path.suffix not in endings:
        valid = " or ".join(endings)
        raise ValueError(f"{name}={shown(str(path))} is not valid: it must be a file name that ends in {valid}.")
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    virtual = folder.is_relative_to("/proc") or folder.is_relative_to("/sys")  # no folder can be made there
    too_long = any(len(os.fsencode(part)) > 255 for part in path.parts)
    if too_long or virtual or os.path.isdir(path) or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{name}={shown(str(path))} is not valid: no file can be written there.")


def save(out: Path, outcome: Any, data: str, metrics: dict[str, Any], **card: Any) -> None:
    """Write the generator of ``outcome`` with its card; ``card`` holds what differs from the outcome.

    ``out`` ends in .safetensors, or in .onnx or .pt2 for what ``spec`` cannot describe.
    """
    from devilgan_lite import files, zoo

    generator, form = outcome.generator, out.suffix.removeprefix(".")
    facts = {"spec": generator.describe(), "seed": outcome.seed, "settings": outcome.settings}
    facts |= {"data": data, "metrics": metrics, "seconds": round(outcome.seconds, 2), **card}
    filled = zoo.ModelCard(name=out.stem, **facts)
    if form == "safetensors":
        zoo.save_file(out, generator, filled)
    else:
        zoo.write_card(files.export(generator, None, out, to=form), filled)


def write(path: Path, text: str) -> None:
    """Write a page or a report, and the folder that it goes into."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def show(result: Any, as_json: bool, text: str | None = None) -> None:
    """Print ``result`` as JSON, or else ``text``; without one, a line for each name of ``result`` with its value."""
    if as_json:
        text = json.dumps(result, indent=2)
    elif text is None:
        plain = {name: value for name, value in result.items() if not isinstance(value, (dict, type(None)))}
        values = ((name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in plain.items())
        text = "\n".join(f"{name:22s}{value}" for name, value in values)
    typer.echo(text)
