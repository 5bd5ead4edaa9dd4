"""The model card, `README.md` beside the weights: what was really done and measured, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from secondstage.files import CARD, read_json, writing_whole
from secondstage.page import number, percent
from secondstage.pairmodel import CONTRACT

from .selection import DEV_VALUE, MEASURE
from .tracking import RUN

Record = Mapping[str, Any]


def write_card(reranker: Path, folder: Path, result: Record) -> None:
    """Write the card into the folder of a saved reranker.

    Args:
        reranker: the folder, with its score contract.
        folder: where `run.json` is.
        result: what the training came to; see `card`.
    """
    text = card(read_json(folder / RUN), result, read_json(reranker / CONTRACT))
    with writing_whole(reranker / CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")


def card(run: Record, result: Record, contract: Record) -> str:
    """The card as Markdown with the hub's front matter. What a record lacks is not spoken of.

    Args:
        run: what `run.json` holds; see `facts.facts`.
        result: `steps`, `lists`, `pairs`, `tokens`, `padding`, `seconds`; with dev also `dev_nDCG@10`,
            `first_stage_nDCG@10`, `dev_queries`, `dev_depth`, `best_step`; `findings` in words.
        contract: the score contract, `score.json`.
    """
    parts = {
        "": _summary(run, result),
        "How to use it": _usage(run, contract),
        "What its scores mean": _contract(contract),
        "What was measured": _measured(run, result),
        "How it was trained": _training(run, result),
        "What it learnt from": _data(run),
        "Where and with what": _machine(run),
    }
    sections = [f"## {title}\n\n{text}" if title else text for title, text in parts.items() if text]
    return f"---\n{_front_matter(run)}---\n\n# Reranker\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(run: Record) -> str:
    """No license: it is not ours to say."""
    decoder = run.get("config", {}).get("head") == "yes_no"
    values: dict[str, Any] = {
        "library_name": "transformers" if decoder else "sentence-transformers",
        "pipeline_tag": "text-ranking",
        "tags": [*([] if decoder else ["sentence-transformers", "cross-encoder"]), "reranker", "secondstage"],
    }
    if hub := run.get("model", {}).get("hub"):
        values["base_model"] = hub
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _summary(run: Record, result: Record) -> str:
    text = "It scores how well a document answers a query, to reorder what a first stage has found."
    start = run.get("model", {})
    if name := start.get("name"):
        revision = f" (revision {start['revision']})" if start.get("revision") else ""
        text += f" It started from `{name}`{revision}"
        student = run["config"].get("student")
        text += f", cut to {student['layers']} layers ({student['keep']})." if student else "."
    if result.get("start") == "warmup":
        text += " That model was trained on the documents of the collection first, without any label."
    if findings := result.get("findings"):
        text += "\n\nBefore you use it, look at this:\n\n" + _bullets(findings)
    return text


def _usage(run: Record, contract: Record) -> str:
    if run.get("config", {}).get("head") == "yes_no":
        ours = "from secondstage.rerankers import load_reranker\n\nreranker = load_reranker(folder)"
        return _code(f"{ours}\nscores = reranker.score([(query, document)])")
    ours = "from secondstage import Reranker\n\nreranker = Reranker.load(folder)"
    theirs = "from sentence_transformers import CrossEncoder\n\nmodel = CrossEncoder(folder)"
    same = f"Both give the same scores, and cut pairs at {contract['max_length']} tokens." if contract else ""
    return "\n\n".join(
        [
            _code(f"{ours}\nscores = reranker.score([(query, document)])"),
            _code(f"{theirs}\nscores = model.predict([(query, document)])"),
            same,
        ]
    ).strip()


def _contract(contract: Record) -> str:
    if not contract:
        return ""
    lines = [
        f"A score is a {contract['score']}; {'higher' if contract['higher_is_better'] else 'lower'} is more relevant.",
        "It is no probability; if score.json holds a calibration, secondstage makes probabilities of scores with it.",
        f"A pair has at most {contract['max_length']} tokens (truncation: {contract['truncation'].replace('_', ' ')}).",
        f"The text of a document is: {contract['document']}.",
    ]
    return _bullets(lines)


def _measured(run: Record, result: Record) -> str:
    value = result.get(DEV_VALUE)
    if value is None:
        return "Nothing: there was no dev set. How good it is, is not known."
    queries, depth = result["dev_queries"], result["dev_depth"]
    first = result[f"first_stage_{MEASURE}"]
    rows = [("first stage", first), ("this reranker alone, on the first stage's lists", value)]
    table = [f"| system | {MEASURE} on dev |", "|---|---:|"]
    table += [f"| {name} | {number(found, 4)} |" for name, found in rows]
    chosen = "The checkpoint was chosen on them: expect a little less on others."
    if folds := run.get("config", {}).get("folds"):
        chosen = f"When to stop was not chosen on them, but on {folds} folds of the training queries."
    return "\n".join(table) + (
        f"\n\nOn {queries:,} dev queries, {depth} candidates each. {chosen} Other queries, other collections, other "
        "first stages and other languages were not measured here."
    )


def _training(run: Record, result: Record) -> str:
    config = run.get("config", {})
    lines = [
        *_budget(config, result),
        *_volume(result),
        *([f"Loss: {loss_in_words(config['loss'])}."] if "loss" in config else []),
    ]
    settings = ("learning_rate", "schedule", "warmup", "layer_decay", "weight_decay", "dropout", "clip", "batch_tokens")
    chosen = [
        f"{name} {config[name]}" for name in (*settings, "positives", "negatives", "max_length") if name in config
    ]
    lines += [f"Settings: {', '.join(chosen)}."] if chosen else []
    lines += [f"Low-rank adapters of rank {config['lora']['rank']}, merged."] if config.get("lora") else []
    lines += ["The embeddings were frozen."] if config.get("freeze_embeddings") else []
    lines += [f"The lowest {config['freeze_layers']} layers were frozen."] if config.get("freeze_layers") else []
    moving = " (their moving average)" if config.get("ema") else ""
    if result.get("averaged"):
        lines.append(f"Kept is the average of the weights{moving} of the best checkpoints, which is better on dev.")
    elif "best_step" in result:
        lines.append(f"Kept are the weights{moving} after {result['best_step']:,} steps.")
    return _bullets(lines)


def _budget(config: Record, result: Record) -> Iterator[str]:
    given = [f"{config[name]} {name}" for name in ("minutes", "steps", "epochs") if config.get(name) is not None]
    given += ["the steps of an earlier run"] if config.get("replay") else []
    used = f"{result['steps']:,} steps were made" if "steps" in result else ""
    if "seconds" in result:
        used += f" in {number(result['seconds'] / 60, 1)} minutes"
    if given or used:
        yield f"Budget: {' and '.join(given) or 'none was given'}" + (f"; {used}." if used else ".")


def _volume(result: Record) -> Iterator[str]:
    if "pairs" in result and "lists" in result:
        yield f"Seen: {result['pairs']:,} pairs in {result['lists']:,} lists, those that came again counted again."
    if result.get("tokens"):
        waste = percent(result["padding"] / result["tokens"], 1)
        yield f"Computed: {result['tokens']:,} tokens, of which {waste} padding."


def loss_in_words(loss: Record) -> str:
    """A weighted sum of losses, e.g. "lce + 0.5 × kl (temperature 2.0)"."""
    terms = []
    for name, term in loss.items():
        settings = {key: value for key, value in term.items() if key != "weight" and value is not None}
        words = ", ".join(f"{key} {value}" for key, value in settings.items())
        weight = "" if term.get("weight", 1) == 1 else f"{term['weight']:g} × "
        terms.append(f"{weight}{name}" + (f" ({words})" if words else ""))
    return " + ".join(terms)


def _data(run: Record) -> str:
    data = run.get("data", {})
    if "lists" not in data:
        return ""
    lines = [
        f"{data['lists']:,} lists, one a query, with {data['positive']:,} positives and {data['negative']:,} negatives "
        f"(and {data['ignored']:,} candidates without a usable label)."
    ]
    if data.get("synthetic"):
        lines.append(f"{data['synthetic']:,} of the queries were made from documents.")
    if data.get("retrievers"):
        lines.append(f"Candidates were found by: {', '.join(data['retrievers'])}.")
    if data.get("teachers"):
        lines.append(f"Teacher scores are from: {', '.join(data['teachers'])}.")
    return _bullets([*lines, f"Fingerprint of the lists: `{data['fingerprint'][:16]}`."])


def _machine(run: Record) -> str:
    machine, git = run.get("machine", {}), run.get("git")
    lines = []
    if machine:
        lines.append(
            f"{machine['name']} ({machine['device']}), {machine['processes']} process"
            f"{'es' if machine['processes'] > 1 else ''}, {machine['threads']} threads each, {machine['precision']}."
        )
    if run.get("versions"):
        lines.append(", ".join(f"{name} {version}" for name, version in run["versions"].items()) + ".")
    if git:
        lines.append(f"Commit `{git['commit']}`" + (", with changes that are not in it." if git["dirty"] else "."))
    lines += [f"Seed {run['seed']}."] if "seed" in run else []
    return _bullets(lines)


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _code(text: str) -> str:
    return f"```python\n{text}\n```"
