"""Predictors of this package in other libraries: scikit-learn's estimators and the hub's models."""
