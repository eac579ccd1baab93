"""The pictures of a grid, in the style of the project's other ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.experiments.columns import COLUMNS
from tvaccine_core.experiments.landscape_pictures import draw_landscapes
from tvaccine_core.experiments.layer_pictures import draw_layers
from tvaccine_core.experiments.picture_style import file_name, height, method_styles
from tvaccine_core.experiments.plan_file import PlannedGrid
from tvaccine_core.experiments.summary import Estimate, Group, estimate, groups, ordered
from tvaccine_core.metrics.figures.canvas import LINES, drawn, grid, shortened

SPREAD = 0.006
"""Distance of two methods at one ratio, as a share of the axis."""


def draw_figures(plan: PlannedGrid, out: Path) -> list[Path]:
    """Draws every picture that the finished cells allow into `out`; returns the files."""
    found = groups(plan)
    if not found:
        return []
    styles = method_styles(plan)
    files: list[Path] = []
    for strength in ordered(group.coordinate("strength") for group in found):
        for task in ordered(group.coordinate("task") for group in found):
            here = [g for g in found if (g.coordinate("strength"), g.coordinate("task")) == (strength, task)]
            files += _attack_pictures(here, styles, out, f"{strength}, {task}") if here else []
    files += _costs(found, out / "costs.png")
    return files + draw_layers(plan, styles, out)


def _attack_pictures(here: Sequence[Group], styles: Mapping[str, Any], out: Path, where: str) -> list[Path]:
    """The pictures of one strength and task."""
    files = []
    for attack in ordered(group.coordinate("attack") for group in here if group.coordinate("ratio") > 0):
        mine = [group for group in here if group.coordinate("attack") == attack]
        name = file_name(f"{attack}-{where}")
        if len({group.coordinate("ratio") for group in mine}) > 1 or any(not g.coordinate("ratio") for g in here):
            benign = [group for group in here if group.coordinate("ratio") == 0]
            path = out / f"harmful-by-ratio-{name}.png"
            _by_ratio([*benign, *mine], styles, path, f"Harmful score by poison ratio: {attack} ({where})")
            files.append(path)
        strongest = _at_highest_ratio(mine)
        path = out / f"harmful-by-accuracy-{name}.png"
        words = f"{attack} {strongest[0].coordinate('ratio'):g} ({where})"
        files += [path] if _by_accuracy(strongest, styles, path, f"Harmful score and accuracy: {words}") else []
        files += draw_landscapes(strongest, out, name, words)
    return files


def _by_ratio(here: Sequence[Group], styles: Mapping[str, Any], path: Path, title: str) -> None:
    methods = ordered(group.coordinate("method") for group in here)
    ratios = ordered((group.coordinate("ratio") for group in here), key=float)
    with drawn(path, title, height=height(len(methods))) as axes:
        for number, method in enumerate(methods):
            mine = sorted((g for g in here if g.coordinate("method") == method), key=lambda g: g.coordinate("ratio"))
            points = [(g.coordinate("ratio"), one) for g in mine if (one := g.estimate("harmful_score")) is not None]
            # Beside each other, so that no interval hides another one.
            aside = SPREAD * (ratios[-1] - ratios[0]) * (number - (len(methods) - 1) / 2)
            places, values = [ratio + aside for ratio, _ in points], [one for _, one in points]
            reach = list(zip(*map(_reach, values), strict=True))
            line = {"lw": 1.8, "elinewidth": 1.0, "markersize": 5, "capsize": 2, "label": shortened(method, 40)}
            axes.errorbar(places, [one.mean for one in values], yerr=reach, **line, **styles[method])
        axes.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
        axes.set_xlabel("poison ratio (share of the attack's rows)")
        axes.set_ylabel("Harmful score (%)")
        axes.set_ylim(-2, 102)
        grid(axes)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _by_accuracy(here: Sequence[Group], styles: Mapping[str, Any], path: Path, title: str) -> bool:
    """Draws it unless the task has no accuracy. Best is at the lower right."""
    points = [(g, g.estimate("accuracy"), g.estimate("harmful_score")) for g in here]
    whole = [(g, x, y) for g, x, y in points if x is not None and y is not None]
    if not whole:
        return False
    with drawn(path, title, height=height(len(whole))) as axes:
        for group, accuracy, harmful in whole:
            method = group.coordinate("method")
            reaches = {"xerr": [[end] for end in _reach(accuracy)], "yerr": [[end] for end in _reach(harmful)]}
            style = {**styles[method], "ls": "none"}
            axes.errorbar(
                accuracy.mean,
                harmful.mean,
                **reaches,
                markersize=8,
                capsize=2,
                lw=1.0,
                label=shortened(method, 40),
                **style,
            )
        axes.set_xlabel("Fine-tune accuracy (%)")
        axes.set_ylabel("Harmful score (%)")
        axes.set_xlim(max(-2.0, min(accuracy.mean - _reach(accuracy)[0] for _, accuracy, _ in whole) - 4), 102)
        axes.set_ylim(-2, 102)
        grid(axes)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return True


def _costs(found: Sequence[Group], path: Path) -> list[Path]:
    """Bars: peak memory and time of alignment and fine-tuning, mean over the cells of a method."""
    methods = ordered(group.coordinate("method") for group in found)[::-1]
    stages = (("alignment", LINES[0]), ("fine_tuning", LINES[4]), ("repair", LINES[2]))
    with drawn(path, "Cost of each method", height=1.6 + 0.5 * len(methods), panels=2) as panels:
        for axes, what, unit in zip(
            panels, ("memory", "seconds"), ("peak memory (10^9 bytes)", "seconds"), strict=True
        ):
            for number, (stage, colour) in enumerate(stages):
                means = [_pooled(found, method, f"{stage}_{what}") for method in methods]
                if any(mean is not None for mean in means):
                    places = [place + 0.26 * (1 - number) for place in range(len(methods))]
                    widths = [0.0 if mean is None else mean for mean in means]
                    axes.barh(places, widths, height=0.24, color=colour, label=stage.replace("_", "-"))
            axes.set_yticks(range(len(methods)), [shortened(method, 26) for method in methods])
            axes.set_ylim(-0.6, len(methods) - 0.4)
            axes.set_xlabel(unit)
            grid(axes, "x")
        panels[1].set_yticklabels([])
        panels[0].figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return [path]


def _pooled(found: Sequence[Group], method: str, column: str) -> float | None:
    values = [value for g in found if g.coordinate("method") == method for value in g.values(column)]
    whole = estimate(values, COLUMNS[column].unit == "%")
    return None if whole is None else whole.mean


def _at_highest_ratio(mine: Sequence[Group]) -> list[Group]:
    highest = max(group.coordinate("ratio") for group in mine)
    return [group for group in mine if group.coordinate("ratio") == highest]


def _reach(value: Estimate) -> tuple[float, float]:
    """How far the interval reaches below and above the mean."""
    low = value.mean if value.low is None else value.low
    high = value.mean if value.high is None else value.high
    return max(0.0, value.mean - low), max(0.0, high - value.mean)
