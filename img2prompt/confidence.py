"""How far a prediction can be trusted: the caption's likelihood, whether the picture belongs to a model's world, and
whether the captioner and the regressor agree.

A model folder may hold a calibration (confidence.json, confidence.safetensors), made by scripts/fit_confidence.py.
Without one, confidence is the caption's mean token probability, and nothing is said about the model's world.
No torch in here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import PresetError

Array = NDArray[np.float64]

SETTINGS, ARRAYS = "confidence.json", "confidence.safetensors"
# What a confidence can rest on; "agreement" is there only with a regressor and a sentence model.
EVIDENCE = ("feature_probe", "feature_distance", "log_likelihood", "agreement")


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution as its mean and a matrix that whitens."""

    mean: Array  # (D,)
    whitening: Array  # (D,K)

    def log_distance(self, rows: Array) -> Array:
        """Natural log of the Mahalanobis distance a degree of freedom: about 0 inside, larger outside.

        Args:
            rows: (B,D).

        Returns:
            (B,).
        """
        whitened = (rows - self.mean) @ self.whitening
        distance: Array = np.sqrt((whitened**2).mean(axis=1))
        return np.log(np.maximum(distance, 1e-6))


def fit_gaussian(rows: Array, shrinkage: float = 0.02) -> Gaussian:
    """Mean and whitening of (N,D) rows; the covariance is shrunk towards its mean variance, so that it inverts."""
    mean = rows.mean(axis=0)
    covariance = np.cov(rows - mean, rowvar=False)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.eye(len(mean)) * np.trace(covariance) / len(mean)
    values, vectors = np.linalg.eigh(covariance)
    return Gaussian(mean, vectors / np.sqrt(np.maximum(values, 1e-12)))


@dataclass(frozen=True)
class Weighing:
    """A logistic regression over some of the evidence."""

    weights: Mapping[str, float]  # name of EVIDENCE -> weight
    bias: float
    threshold: float  # of the confidence; below it a picture is called outside of the model's world

    def confidence(self, evidence: Mapping[str, Array]) -> Array:
        """Probability (B,) that the picture belongs to the model's world, so that the prompt can be right."""
        logits = self.bias + sum(weight * evidence[name] for name, weight in self.weights.items())
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -50, 50))))


@dataclass(frozen=True)
class Calibration:
    """What turns evidence about a prediction into a confidence."""

    features: Gaussian  # of the captioner's image features on pictures of its world
    probe: Array  # (D,), direction in the features that tells its world from other pictures
    probe_bias: float
    weighings: tuple[Weighing, ...]  # best first; the first counts whose evidence is all there

    def evidence(self, features: Array, log_likelihoods: Array, agreement: Array | None = None) -> dict[str, Array]:
        """The evidence (B,) by its names.

        Args:
            features: (B,D), the captioner's image features.
            log_likelihoods: (B,), mean natural log-likelihood of a token of the captioner's own best caption.
            agreement: (B,), cosine of the prompt's sentence embedding to the regressed one; None: not known.
        """
        columns = {
            "feature_probe": features @ self.probe + self.probe_bias,
            "feature_distance": self.features.log_distance(features),
            "log_likelihood": log_likelihoods,
        }
        return columns if agreement is None else {**columns, "agreement": agreement}

    def judge(self, evidence: Mapping[str, Array]) -> tuple[Array, NDArray[np.bool_]]:
        """Confidence (B,), and whether each picture belongs to the model's world (B,).

        Raises:
            PresetError: the calibration needs evidence that is not there.
        """
        weighing = next((w for w in self.weighings if set(w.weights) <= set(evidence)), None)
        if weighing is None:
            raise PresetError(f"{SETTINGS}: it rests on the agreement of two models, but one is missing; fit it again")
        confidence = weighing.confidence(evidence)
        return confidence, confidence >= weighing.threshold

    def uses(self, name: str) -> bool:
        """Whether any weighing rests on a piece of evidence."""
        return any(name in weighing.weights for weighing in self.weighings)


def fit_logistic(rows: Array, labels: Array, ridge: float = 1e-3) -> tuple[Array, float]:
    """Weights and bias of a logistic regression, both classes counting alike, by Newton's method.

    Args:
        rows: (N,K).
        labels: (N,), 1 for inside, 0 for outside.
        ridge: penalty on the weights of standardised columns, which keeps them finite when the classes separate.
    """
    centre, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    design = np.column_stack([(rows - centre) / scale, np.ones(len(rows))])
    share = np.where(labels == 1, 0.5 / max(labels.sum(), 1), 0.5 / max((1 - labels).sum(), 1))
    penalty = np.diag([ridge] * rows.shape[1] + [0.0])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -50, 50)))
        gradient = design.T @ (share * (p - labels)) + penalty @ beta
        hessian = (design * (share * p * (1 - p))[:, None]).T @ design + penalty + 1e-9 * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        beta -= step
        if np.abs(step).max() < 1e-8:
            break
    weights = beta[:-1] / scale
    return weights, float(beta[-1] - weights @ centre)


def save_calibration(calibration: Calibration, folder: Path, facts: dict[str, Any]) -> None:
    """Writes the calibration into a model folder; `facts` says how it was made and what it reached."""
    from safetensors.numpy import save_file

    arrays = {
        "features.mean": calibration.features.mean,
        "features.whitening": calibration.features.whitening,
        "probe": calibration.probe,
    }
    save_file({name: np.ascontiguousarray(a, dtype=np.float32) for name, a in arrays.items()}, folder / ARRAYS)
    first, *others = [
        {"weights": dict(w.weights), "bias": w.bias, "threshold": w.threshold} for w in calibration.weighings
    ]
    settings = {**first, "otherwise": others, "probe_bias": calibration.probe_bias, "made_by": facts}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def load_calibration(folder: Path) -> Calibration | None:
    """The calibration in a model folder, or None when it has none.

    Raises:
        PresetError: its files are damaged.
    """
    if not (folder / SETTINGS).is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        arrays = {name: a.astype(np.float64) for name, a in load_file(folder / ARRAYS).items()}
        return Calibration(
            features=Gaussian(arrays["features.mean"], arrays["features.whitening"]),
            probe=arrays["probe"],
            probe_bias=float(settings["probe_bias"]),
            weighings=tuple(_weighing(row) for row in (settings, *settings.get("otherwise", ()))),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise PresetError(
            f"{folder / SETTINGS}: damaged ({type(error).__name__}: {error}); remove it, or fit it again"
        ) from error


def _weighing(row: Mapping[str, Any]) -> Weighing:
    weights = {str(name): float(weight) for name, weight in row["weights"].items()}
    if not weights or not set(weights) <= set(EVIDENCE):
        raise ValueError(f"weights of {', '.join(weights) or 'nothing'}; the evidence is {', '.join(EVIDENCE)}")
    return Weighing(weights, float(row["bias"]), float(row["threshold"]))
