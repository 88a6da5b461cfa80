"""Losses that teach a network to embed the pixels of an instance near each other, apart from all other instances."""

from instseg.loss.distance import EuclideanDistanceMetric, ManhattanDistanceMetric
from instseg.loss.error import LogCoshErrorMetric, SquaredErrorMetric
from instseg.loss.keras_loss import KerasMetricLoss
from instseg.loss.metric import MetricLoss, MetricLossTerms, metric_loss

__all__ = [
    "EuclideanDistanceMetric",
    "KerasMetricLoss",
    "LogCoshErrorMetric",
    "ManhattanDistanceMetric",
    "MetricLoss",
    "MetricLossTerms",
    "SquaredErrorMetric",
    "metric_loss",
]
