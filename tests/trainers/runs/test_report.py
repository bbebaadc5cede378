"""The matrix of transferred attacks: one attack of one radius and number of steps, or none."""

import numpy as np

from trainers.runs.report import _transfer

WEAK, STRONG = (2.0, 100), (8.0, 100)
DIAGONAL = {("pta", WEAK, "none"): 0.4, ("pta", WEAK, "saat"): 0.5}


def test_no_matrix_mixes_radii():
    crossed = {("pta, transferred from saat", STRONG, "none"): 0.1, ("pta, transferred from none", STRONG, "saat"): 0.3}
    assert _transfer(["none", "saat"], {**DIAGONAL, **crossed}) is None
    whole = {**DIAGONAL, **crossed, ("pta", STRONG, "none"): 0.05, ("pta", STRONG, "saat"): 0.2}
    matrix = _transfer(["none", "saat"], whole)
    np.testing.assert_array_equal(matrix.maps, [[0.05, 0.3], [0.1, 0.2]])  # rows: made on, columns: scored on
    assert matrix.surrogates == matrix.victims == ["undefended", "SAAT"]
