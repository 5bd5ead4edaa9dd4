"""The command line: parse, run, and turn a user's mistake into a message and exit code 2."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from .errors import UserError
from .plan import describe_os_error
from .version import __version__

USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 for a user's mistake."""
    parsed = _parser().parse_args(arguments)
    _quiet_libraries()
    try:
        parsed.function(parsed)
    except UserError as error:
        print(f"secondstage: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        # The reader of our output, e.g. `head`, has gone: not our error, and nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"secondstage: {describe_os_error(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("secondstage: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="secondstage", description="From a corpus and some queries to a two-stage search pipeline, with proof."
    )
    parser.add_argument("--version", action="version", version=f"secondstage {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="the whole path on the documentation of the installed Python libraries")
    demo.add_argument("--output", default="runs/demo", metavar="DIR", help="default: %(default)s")
    demo.set_defaults(function=_demo)

    for name, description in (
        ("run", "every stage in order; what is done and unchanged is skipped"),
        ("mine", "the stages up to the training lists"),
        ("train", "the stages up to the tuned reranker"),
        ("bundle", "the stages up to the pipeline, without a proof"),
        ("evaluate", "the stages up to the proof"),
    ):
        command = commands.add_parser(name, help=description)
        command.add_argument("config", metavar="CONFIG", help="a YAML file, see configs/domain.yaml")
        command.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. train.minutes=4")
        command.set_defaults(function=_run, command=name)

    search = commands.add_parser("search", help="ask a bundle")
    search.add_argument("bundle", metavar="BUNDLE", help="the folder that a run made, e.g. runs/demo/bundle")
    search.add_argument("query", metavar="QUERY")
    search.add_argument("--top-n", type=int, default=10, metavar="N", help="default: %(default)s")
    search.add_argument("--json", action="store_true", help="print the results as JSON")
    search.set_defaults(function=_search)
    return parser


def _run(parsed: argparse.Namespace) -> None:
    from .commands import carry_out_up_to
    from .configfile import load_config

    config = load_config(parsed.config, parsed.overrides)
    command = "evaluate" if parsed.command == "run" else parsed.command
    carry_out_up_to(command, config)
    output = Path(config.output).expanduser()
    if command == "evaluate":
        _print_proof(output)
    else:
        print(output / command)


def _demo(parsed: argparse.Namespace) -> None:
    from .commands import carry_out_up_to
    from .configfile import load_config

    with resources.as_file(resources.files("secondstage.configs") / "demo.yaml") as path:
        config = load_config(path, [f"output={json.dumps(parsed.output, ensure_ascii=False)}"])
    carry_out_up_to("evaluate", config)
    output = Path(config.output).expanduser()
    _print_proof(output)
    print(f'\nAsk it: secondstage search {output / "bundle"} "run a coroutine with a timeout"')


def _print_proof(output: Path) -> None:
    from .files import read_json
    from .table import render

    print(render(read_json(output / "evaluation" / "metrics.json")))
    print(f"\nPipeline: {output / 'bundle'}   figures and TREC runs: {output / 'evaluation'}")


def _search(parsed: argparse.Namespace) -> None:
    from secondstage.serve import Pipeline

    results = Pipeline.load(parsed.bundle).search(parsed.query, parsed.top_n)
    if parsed.json:
        print(json.dumps([result._asdict() for result in results], ensure_ascii=False, indent=2))
        return
    if not results:
        print("nothing found")
    for result in results:
        moved = result.first_stage_rank - result.rank
        arrow = f"↑{moved}" if moved > 0 else f"↓{-moved}" if moved < 0 else "="
        print(
            f"{result.rank:>3}  (first stage {result.first_stage_rank:>3} {arrow:>4})  {result.title or result.doc_id}"
        )
        print(f"     {_one_line(result.text)}")


def _one_line(text: str, width: int = 110) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _quiet_libraries() -> None:
    """Warnings of libraries are for their developers; with PYTHONWARNINGS or -W they are shown."""
    import warnings

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # Set before the libraries are imported, where they read it; a user's own setting stands.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


if __name__ == "__main__":
    sys.exit(main())
