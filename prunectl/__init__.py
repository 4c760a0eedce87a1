"""Declarative experiments in neural network pruning: plan, train, prune, retrain, compare."""

__version__ = "0.1.0"
