"""Target label sets of targeted attacks."""

import numpy as np


def draw_target_labels(query_labels: np.ndarray, database_labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Draw for each query one of the database's distinct non-empty label sets that shares no label with it.

    Args:
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.
        seed: seed of the draw.

    Returns:
        float32 (Q, C) of 0/1.

    Raises:
        ValueError: a query shares a label with every label set of the database.

    Example:
        >>> draw_target_labels(np.float32([[1, 0]]), np.float32([[1, 0], [0, 1], [0, 0]]), seed=0).tolist()
        [[0.0, 1.0]]
    """
    query_labels = np.asarray(query_labels, np.float32)
    label_sets = np.unique(np.asarray(database_labels, np.float32), axis=0)
    label_sets = label_sets[label_sets.any(axis=1)]
    if not len(label_sets):
        raise ValueError("The database has no image with a label, so there is no target to draw.")
    rng = np.random.default_rng(seed)
    targets = np.empty_like(query_labels)
    for i, labels in enumerate(query_labels):
        candidates = np.flatnonzero(label_sets @ labels == 0)
        if not candidates.size:
            raise ValueError(
                f"Query {i} (labels {np.flatnonzero(labels).tolist()}) shares a label with every label set of the "
                "database, so it has no target. Leave it out of the targeted attack."
            )
        targets[i] = label_sets[rng.choice(candidates)]
    return targets


def check_target_labels(query_labels: np.ndarray, target_labels: np.ndarray) -> None:
    """Raise `ValueError` unless each row of `target_labels` (Q, C) has a label and shares none with its query."""
    query_labels, target_labels = np.asarray(query_labels, np.float32), np.asarray(target_labels, np.float32)
    if query_labels.shape != target_labels.shape:
        raise ValueError(
            f"Each query needs one target. Received: targets of shape {target_labels.shape} for queries of shape "
            f"{query_labels.shape}."
        )
    empty = np.flatnonzero(~target_labels.any(axis=1))
    if empty.size:
        raise ValueError(
            f"A target needs a label. Received: none for query {empty[0]}, and for {empty.size} queries in all. Draw "
            "them by `draw_target_labels`."
        )
    shared = np.flatnonzero((query_labels * target_labels).any(axis=1))
    if shared.size:
        i = shared[0]
        raise ValueError(
            f"Target labels must share none with the query. Received: query {i} with labels "
            f"{np.flatnonzero(query_labels[i]).tolist()} and target {np.flatnonzero(target_labels[i]).tolist()}; "
            f"{shared.size} queries have such a target. Draw them by `draw_target_labels`."
        )
