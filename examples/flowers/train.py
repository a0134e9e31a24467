# /// script
# dependencies = ["scikit-learn>=1.5"]
# ///
"""Trains the model and saves it beside the step, once: uv run examples/flowers/train.py"""

import pickle
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

data = load_iris()
model = LogisticRegression(max_iter=1000).fit(data.data[:, 2:], data.target_names[data.target])
Path(__file__).with_name("model.pickle").write_bytes(pickle.dumps(model))
