"""One triangle of products against all of them by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harkback.triangle import STRIP, add_products


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [1, STRIP - 1, STRIP, 2 * STRIP + 3])
@pytest.mark.parametrize("rows", [0, 5])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_lower_triangle_is_that_of_what_was_and_of_all_products(
    rows: int, columns: int, dtype: torch.dtype, sign: int
) -> None:
    some = torch.Generator().manual_seed(0)
    before, x = (torch.randn(n, columns, dtype=dtype, generator=some) for n in (columns, rows))
    found = add_products(before.clone(), x, sign)
    expected = np.tril(before.numpy() + sign * x.numpy().T @ x.numpy())
    np.testing.assert_allclose(
        np.tril(found.numpy()), expected, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 1e-12
    )
    assert found.dtype == dtype
