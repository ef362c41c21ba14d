"""Softmax regression on a Dask cluster: the parameters, attributes and bits of one machine.

    from csoftmax.dask import SoftmaxClassifier, SoftmaxClassifierCV

    classifier = SoftmaxClassifier(C=0.01).fit(dX, dy)

X may be a Dask array (kept in the workers' memory during the fit), a Dask dataframe, or
`csoftmax.shards` whose files the workers can open by themselves. It needs the extra ``dask``:
``pip install 'csoftmax[dask]'``.
"""

from csoftmax.dask.classifier import SoftmaxClassifier
from csoftmax.dask.cv import SoftmaxClassifierCV

__all__ = ["SoftmaxClassifier", "SoftmaxClassifierCV"]
