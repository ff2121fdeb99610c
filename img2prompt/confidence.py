"""How far a prediction can be trusted: the caption's likelihood, and whether the picture belongs to a model's world.

A model folder may hold a calibration (confidence.json, confidence.safetensors), made by scripts/fit_confidence.py.
Without one, confidence is the caption's mean token probability, and nothing is said about the model's world.
No torch in here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import PresetError

Array = NDArray[np.float64]

SETTINGS, ARRAYS = "confidence.json", "confidence.safetensors"
EVIDENCE = ("feature_probe", "feature_distance", "log_likelihood")


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
class Calibration:
    """What turns evidence about a prediction into a confidence."""

    features: Gaussian  # of the captioner's image features on pictures of its world
    probe: Array  # (D,), direction in the features that tells its world from other pictures
    probe_bias: float
    weights: Array  # (3,), in the order of EVIDENCE
    bias: float
    threshold: float  # below it a picture is called outside of the model's world

    def evidence(self, features: Array, log_likelihoods: Array) -> Array:
        """The columns of EVIDENCE.

        Args:
            features: (B,D), the captioner's image features.
            log_likelihoods: (B,), mean natural log-likelihood of a token of the caption.

        Returns:
            (B,3).
        """
        probed = features @ self.probe + self.probe_bias
        return np.stack([probed, self.features.log_distance(features), log_likelihoods], axis=1)

    def confidence(self, evidence: Array) -> Array:
        """Probability (B,) that the picture belongs to the model's world, so that the prompt can be right."""
        return 1 / (1 + np.exp(-np.clip(evidence @ self.weights + self.bias, -50, 50)))


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
    settings = {
        "weights": dict(zip(EVIDENCE, calibration.weights.tolist(), strict=True)),
        "bias": calibration.bias,
        "probe_bias": calibration.probe_bias,
        "threshold": calibration.threshold,
        "made_by": facts,
    }
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
            weights=np.array([float(settings["weights"][name]) for name in EVIDENCE]),
            bias=float(settings["bias"]),
            threshold=float(settings["threshold"]),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise PresetError(
            f"{folder / SETTINGS}: damaged ({type(error).__name__}: {error}); remove it, or fit it again"
        ) from error
