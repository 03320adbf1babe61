"""The operators of ONNX that are read, each as a few steps of torch: ``OPERATORS`` maps a name to its builder.

A builder gets a ``Node``, takes what is known of its inputs (weights, shapes, attributes) and emits steps. Operators
differ between opsets 7 and 25; where they do, the comment names the opset.
"""

from devilgan_lite.files.onnx_operators import layers, pointwise, resize, shapes
from devilgan_lite.files.onnx_operators.node import DTYPES, OPERATORS, Node, Value

__all__ = ["DTYPES", "OPERATORS", "Node", "Value", "layers", "pointwise", "resize", "shapes"]
