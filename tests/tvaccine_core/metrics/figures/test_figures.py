import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from tvaccine_core.metrics.figures import canvas
from tvaccine_core.metrics.figures.basin import draw_basin, draw_plane
from tvaccine_core.metrics.figures.layers import draw_drift, draw_gradient_norms
from tvaccine_core.metrics.landscape.config import LandscapeConfig
from tvaccine_core.metrics.layer_curves import LayerCurves

ALPHAS = LandscapeConfig().alphas


def basin(depth: float, directions: int = 3) -> dict[str, Any]:
    lines = [
        {
            "seed": seed,
            "visage": depth,
            "width": 0.3,
            "points": [{"alpha": a, "asr": min(100.0, 100 - depth + (300 + 30 * seed) * a * a)} for a in ALPHAS],
        }
        for seed in range(directions)
    ]
    config = LandscapeConfig(seeds=tuple(range(directions)))
    return {"config": config.to_dict(), "identity": {}, "visage": depth, "lines": lines}


def plane(low: float = 0.0) -> dict[str, Any]:
    scores = [[min(100.0, low + 400 * (x * x + 2 * y * y)) for x in ALPHAS] for y in ALPHAS]
    config = LandscapeConfig().to_dict()
    return {"config": config, "directions": ["random:1", "toward:tuned"], "alphas": list(ALPHAS), "scores": scores}


def drift(rise: float, layers: int = 12) -> list[dict[str, Any]]:
    points = []
    for step in range(0, 201, 20):
        each = [rise * step * (1 + layer) / 1000 for layer in range(layers)]
        points.append({"step": step, "layers": each, "total": sum(each), "tokens": 99})
    return points


def curves(unit: Any = "share", draws: int = 10, probes: int = 9, layers: int = 30) -> LayerCurves:
    values = tuple(tuple(1 / (1 + layer + 0.2 * probe) for layer in range(layers)) for probe in range(probes))
    drawn = tuple(max(0, draws - layer // 3) for layer in range(layers))
    return LayerCurves(tuple(200 * probe for probe in range(probes)), values, unit, drawn if draws else (), draws)


@pytest.fixture
def axes_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Axes]]:
    """Draws, checks the file, and gives all axes of the figure as they were written."""
    from matplotlib.figure import Figure

    written: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **kwargs: Any) -> None:
        written.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(function: Callable[..., None], *args: Any, path: Path, **kwargs: Any) -> list[Axes]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            function(*args, path, **kwargs)
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", data[16:20]) == (1200,)
        return written[-1].axes

    return draw


def texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_the_basin_shows_every_model_with_its_visage(axes_of: Any, tmp_path: Path) -> None:
    (axes,) = axes_of(draw_basin, {"SFT": basin(80.0), "T-Vaccine": basin(95.0)}, path=tmp_path / "a.png")
    assert texts(axes) == ["SFT (VISAGE 80.0)", "T-Vaccine (VISAGE 95.0)"]
    assert axes.get_ylabel() == "Attack success rate (%)"
    assert "norm" in axes.get_xlabel()
    means = [line for line in axes.get_lines() if line.get_label() in texts(axes)]
    assert len(means) == 2
    assert len(axes.get_lines()) == 2 * (3 + 1) + 1  # directions, mean, and the model's place
    assert means[0].get_ydata()[10] == 20.0
    assert len({line.get_color() for line in means}) == 2
    assert len({line.get_marker() for line in means}) == 2  # told apart without colour, too


def test_the_basin_of_one_direction_is_its_own_mean(axes_of: Any, tmp_path: Path) -> None:
    (axes,) = axes_of(draw_basin, {"m": basin(60.0, 1)}, path=tmp_path / "a.png", score="Harmful score (%)")
    assert axes.get_ylabel() == "Harmful score (%)"
    assert len(axes.get_lines()) == 2


@pytest.mark.parametrize("low", [0.0, 100.0])
def test_the_plane_has_its_scale_and_its_directions(axes_of: Any, tmp_path: Path, low: float) -> None:
    axes, scale = axes_of(draw_plane, plane(low), path=tmp_path / "a.png")
    assert axes.get_xlabel() == "step along random direction 1"
    assert axes.get_ylabel() == "step along the way to tuned"
    assert scale.get_ylabel() == "Attack success rate (%)"
    mesh = axes.collections[0]
    assert mesh.get_clim() == (0, 100)  # the same colours in every picture
    assert mesh.get_array().shape == (21, 21)
    assert mesh.get_array()[0, 10] == min(100.0, low + 200)  # rows go along the second direction
    assert mesh.get_array()[10, 0] == min(100.0, low + 100)


def test_drift_is_drawn_over_steps_and_layers(axes_of: Any, tmp_path: Path) -> None:
    left, right, scale = axes_of(draw_drift, {"SFT": drift(2.0), "ours": drift(1.0)}, path=tmp_path / "a.png")
    assert texts(left) == ["SFT", "ours"]
    assert left.get_xlabel() == right.get_xlabel() == "training step"
    assert "squared activation per token" in left.get_ylabel()
    assert "squared activation per token" in scale.get_ylabel()
    image = right.get_images()[0].get_array()
    assert image.shape == (12, 11)
    assert image[11, 10] == pytest.approx(drift(2.0)[10]["layers"][11])
    ticks = [label.get_text() for label in right.get_xticklabels()]
    assert (ticks[0], ticks[-1]) == ("0", "200")
    with pytest.raises(ValueError, match="no drift"):
        draw_drift({}, tmp_path / "b.png")


def test_gradient_norms_show_first_and_last_probe_and_the_draws(axes_of: Any, tmp_path: Path) -> None:
    axes, beside = axes_of(draw_gradient_norms, curves(), path=tmp_path / "a.png")
    labels = texts(axes)
    assert labels[0] == "step 0"
    assert "step 1600" in labels
    assert sum(label.startswith("step") for label in labels) == 6
    assert axes.get_ylabel().startswith("Share")
    assert beside.get_ylabel() == "Drawn, share of 10 draws (%)"
    assert [bar.get_height() for bar in beside.patches][:4] == [100.0, 100.0, 100.0, 90.0]


def test_gradient_norms_without_draws(axes_of: Any, tmp_path: Path) -> None:
    (axes,) = axes_of(draw_gradient_norms, curves("norm", draws=0, probes=1, layers=1), path=tmp_path / "a.png")
    assert axes.get_ylabel().startswith("Gradient norm")
    assert texts(axes) == ["step 0"]


@pytest.mark.parametrize("name", ["$\\frac{1}{$", "<b>", "x" * 300, "line\nbreak"])
def test_any_name_can_be_drawn(axes_of: Any, tmp_path: Path, name: str) -> None:
    axes_of(draw_basin, {name: basin(50.0)}, path=tmp_path / "a.png")
    axes_of(draw_drift, {name: drift(1.0)}, path=tmp_path / "b.png")
    axes_of(draw_plane, {**plane(), "directions": ["random:1", f"toward:{name}"]}, path=tmp_path / "c.png")
    axes_of(draw_gradient_norms, curves(), path=tmp_path / "d.png", title=name)


def test_a_picture_that_fails_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), canvas.drawn(tmp_path / "a.png", "title"):
        raise RuntimeError
    assert not (tmp_path / "a.png").exists()
