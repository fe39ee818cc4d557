"""What a model is worth: predicts a set, evaluates it beside two baselines, fills in its card.

    python scripts/model_card.py --model nano --set ../shared/data/heldout -o runs/card \\
        --metrics runs/nano/metrics.csv --page docs/model_card_nano.md

Baselines are random walks with ideal geometry and the untrained network of the same configuration;
their structures lie in the output folder as mmCIF, like the model's. The same command goes on where
it was stopped; a target that fails counts as 0 and stops nothing. Written are `card.json` and
`card.md`, and, where a page is given, what stands between its marks, with the training curve beside
it as `NAME_curve.svg`.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from seedfold.checkpoint import CheckpointInfo, read_info, save_checkpoint
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.evaluate import baselines
from seedfold.evaluate.model_card import (
    Method,
    architecture_text,
    difference_text,
    filled,
    geometry_rows,
    score_rows,
    table_text,
    to_json,
)
from seedfold.evaluate.model_run import find_set, input_of, predict_set
from seedfold.evaluate.run import SetRequest, SetResult, evaluate_set
from seedfold.evaluate.summary import write_evaluation
from seedfold.evaluate.targets import TargetKind, read_targets
from seedfold.jobs import Request
from seedfold.models import load_model, untrained, weights_file
from seedfold.progress import Reporter

WALK, UNTRAINED = baselines.NAME, "untrained"


@dataclass(frozen=True)
class Card:
    """One run of the script."""

    options: argparse.Namespace
    reporter: Reporter

    @property
    def output(self) -> Path:
        return self.options.output

    @cached_property
    def found(self) -> Any:
        return find_set(self.options.set)

    @cached_property
    def info(self) -> CheckpointInfo:
        """Of the model; what its file says or, without a file, what the program does."""
        file = weights_file(self.options.model)
        if file is not None and file.is_file():
            return read_info(file)
        model = load_model(self.options.model, reporter=self.reporter)
        return CheckpointInfo(
            name=model.name, config=model.network.config, trained=model.trained,
            inputs=model.options, notice=model.notice,
        )  # fmt: skip

    def chosen(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Structures to predict, as functions that build them, and why others are left out."""
        names = dict.fromkeys(target.pdb_id for target in read_targets(self.found.targets))
        if self.options.only is not None:
            names = {name: None for name in names if name in self.options.only.split(",")}
        kept, left_out = {}, {}
        for name in names:
            path = input_of(self.found, name, self.output / "model" / "predictions", self.reporter)
            try:
                if path is None:
                    raise InputError(name, "has no input")
                size = baselines.n_tokens(baselines.structure_of(path))
            except InputError as error:
                left_out[name] = str(error)
                continue
            if size > self.options.max_tokens:
                left_out[name] = f"{size} tokens"
            else:
                kept[name] = partial(baselines.structure_of, path)
        return kept, left_out

    def predict(self, folder: str, model: str, names: Sequence[str]) -> None:
        """Predictions of a network, by the command's own way."""
        o = self.options
        request = Request(
            inputs=(), output=self.output / folder / "predictions", model=model, seeds=(o.seed,),
            n_samples=o.samples, n_cycles=o.cycles, n_steps=o.steps, device=o.device,
        )  # fmt: skip
        predict_set(self.found, request, self.reporter, only=names)

    def untrained_weights(self) -> Path:
        """The same network of random numbers, as a file; kept, for its date says what is done."""
        path = self.output / "untrained.safetensors"
        info = replace(self.info, name=UNTRAINED, trained=False, notice="")
        if not path.is_file() or read_info(path).config != info.config:
            save_checkpoint(path, untrained(info.config).state_dict(), info)
        return path

    def evaluate(self, folder: str, names: Sequence[str]) -> SetResult:
        """Scores of all predictions in a folder."""
        o = self.options
        request = SetRequest(
            targets=self.found.targets, references=self.found.references,
            predictions=self.output / folder / "predictions", output=self.output / folder,
            only=tuple(names), poses=o.poses, workers=o.workers, n_bootstrap=o.bootstrap,
        )  # fmt: skip
        result = evaluate_set(request, progress=self.reporter.stage)
        write_evaluation(request, result, command=" ".join(sys.argv))
        return result


def main() -> None:
    options = arguments().parse_args()
    with Reporter() as reporter:
        card = Card(options, reporter)
        structures, left_out = card.chosen()
        for name, reason in left_out.items():
            reporter.warn(f"{name}: left out: {reason}")
        if not structures:
            raise InputError(str(options.set), "has no target that may be predicted")
        names = list(structures)
        walks = options.output / "random_walk" / "predictions"
        seeds = range(1, options.walks + 1)
        for name, reason in baselines.random_walk_set(structures, walks, seeds).items():
            reporter.warn(f"{name}: no random walk: {reason}")
        card.predict("model", options.model, names)
        card.predict("untrained", str(card.untrained_weights()), names)
        methods = [
            Method(
                name=name,
                targets=card.evaluate(folder, names).targets,
                predictions=options.output / folder / "predictions",
                ranked=folder != "random_walk",
            )
            for name, folder in (
                *((card.info.name, "model"), (WALK, "random_walk"), (UNTRAINED, "untrained")),
            )
        ]
        write(card, methods, left_out)


def write(card: Card, methods: Sequence[Method], left_out: dict[str, str]) -> None:
    """Writes the tables, and fills in the page."""
    o = card.options
    scores = score_rows(methods, n_bootstrap=o.bootstrap)
    shapes = geometry_rows(methods, n_bootstrap=o.bootstrap)
    targets = [scored.target for scored in methods[0].targets]
    kinds: dict[str, TargetKind] = {target.task: target.kind for target in targets}
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(o).items()}
    content = {
        "model": {k: v for k, v in asdict(card.info).items() if k not in ("config", "inputs")},
        "settings": settings,
        "left_out": left_out,
        "scores": to_json(scores),
        "geometry": to_json(shapes),
    }
    network = load_model(o.model).network
    n_parameters = sum(weight.numel() for weight in network.parameters())
    parts = {
        "architecture": architecture_text(card.info, n_parameters),
        "scores": f"{conditions(o, left_out)}\n\n{table_text(scores)}",
        "differences": difference_text(scores, kinds),
        "geometry": table_text(shapes),
    }
    with whole_file(o.output / "card.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    with whole_file(o.output / "card.md") as temporary:
        temporary.write_text("\n\n".join(parts.values()))
    print("\n\n".join(parts.values()))
    if o.page is not None:
        parts |= {} if o.metrics is None else {"curve": curve(o.metrics, o.page)}
        with whole_file(o.page) as temporary:
            temporary.write_text(filled(o.page.read_text(), parts, str(o.page)))


def conditions(options: argparse.Namespace, left_out: dict[str, str]) -> str:
    """How the numbers came about, in a paragraph."""
    passes = "its own" if options.cycles is None else options.cycles
    steps = "its own" if options.steps is None else options.steps
    lost = f"; left out: {', '.join(left_out)} (card.json says why)" if left_out else ""
    return (
        f"Up to {options.max_tokens} tokens{lost}. Seed {options.seed}, samples: {options.samples} "
        f"(the top-ranked counts), {passes} trunk passes, {steps} diffusion steps, "
        f"{options.walks} random walks a target. Means over targets with 95 % bootstrap intervals; "
        "a target without a score counts as 0."
    )


CURVES = {"mse": "MSE", "smooth_lddt": "smooth lDDT loss", "chirality": "chirality", "lddt": "lDDT"}
"""Columns of a run's table and what they are called; lDDT is that of sampled structures."""


def curve(metrics: Path, page: Path) -> str:
    """Draws how a run went beside the page, as far as its table tells; the line that shows it."""
    from matplotlib.figure import Figure

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    points = {
        title: [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        for name, title in CURVES.items()
    }
    points = {title: known for title, known in points.items() if len(known) > 1}
    if not points:
        raise InputError(str(metrics), f"has no two values of {', '.join(CURVES)}")
    figure = Figure(figsize=(2.6 * len(points), 2.4), layout="constrained")
    panels = figure.subplots(1, len(points), squeeze=False)[0]
    for axes, (title, known) in zip(panels, points.items(), strict=True):
        step, value = np.array(known).T
        width = max(1, len(value) // 100)
        axes.plot(step, value, ".", ms=2, color="0.75", rasterized=True)
        axes.plot(
            step[width - 1 :], np.convolve(value, np.ones(width) / width, "valid"), color="C0"
        )
        axes.set(xlabel="step", title=title, ylim=(0, np.quantile(value, 0.99) * 1.05))
    path = page.with_name(f"{page.stem.removeprefix('model_card_')}_curve.svg")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    return f"![{', '.join(points)} by step, with running means]({path.name})"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="nano", help="name of a model or a .safetensors file")
    parser.add_argument("--set", type=Path, required=True, help="structures/ and targets/")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", help="some structures of the lists, e.g. 5sbj,7fwf")
    parser.add_argument("--max-tokens", type=int, default=768)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--cycles", type=int, help="trunk passes; default: the model's")
    parser.add_argument("--steps", type=int, help="diffusion steps; default: the model's")
    parser.add_argument("--walks", type=int, default=3, help="random walks a target")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--poses", choices=("full", "fast", "none"), default="fast")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bootstrap", type=int, default=10_000)
    parser.add_argument("--metrics", type=Path, help="metrics.csv of the run, for the curve")
    parser.add_argument("--page", type=Path, help="the model card to fill in")
    return parser


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
