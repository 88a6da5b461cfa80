"""Predictions against labels: scores, kinds of errors, and the evaluation of whole folders with tables and pictures."""
