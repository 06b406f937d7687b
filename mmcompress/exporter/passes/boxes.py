"""Non-maximum suppression inside the file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...kinds import Suppression

DETECTIONS = 'detections'
"""Name of the output: rows of :data:`COLUMNS`, the highest score first."""

COLUMNS = ('left', 'top', 'right', 'bottom', 'score', 'class')


class AppendSuppression(ir.passes.InPlacePass):
    """Replace the outputs, all boxes and their scores, by :data:`DETECTIONS`.

    Args:
        suppression (Suppression): By class.
    """

    def __init__(self, suppression: Suppression) -> None:
        super().__init__()
        self.suppression = suppression

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Append the nodes."""
        boxes, scores = model.graph.outputs
        tape, most = ir.tape.Tape(model.graph), 2 ** 31 - 1

        def constant(name: str, content: np.generic) -> ir.Value:
            return tape.initializer(
                ir.tensor(np.atleast_1d(content)), f'suppression_{name}')

        first, second, third, last = (
            constant(f'axis_{i}', np.int64(i)) for i in (0, 1, 2, -1))
        # Rows of image, class and prior.
        found = tape.op('NonMaxSuppression', [
            boxes, scores, constant('per_class', np.int64(most)),
            constant('iou', np.float32(self.suppression.iou)),
            constant('score', np.float32(self.suppression.score))])
        kept = tape.op('GatherND', [scores, found])
        count = tape.op('Min', [
            tape.op('Shape', [kept]),
            constant('limit', np.int64(self.suppression.limit or most))])
        best, order = tape.op_multi_out('TopK', [kept, count], num_outputs=2)
        chosen = tape.op('Gather', [found, order], dict(axis=0))
        priors = tape.op(
            'Squeeze', [tape.op('Gather', [chosen, third], dict(axis=1)), last])
        classes = tape.op('Gather', [chosen, second], dict(axis=1))
        columns = [
            tape.op('Gather', [tape.op('Squeeze', [boxes, first]), priors],
                    dict(axis=0)),
            tape.op('Unsqueeze', [best, last]),
            tape.op('Cast', [classes], dict(to=int(ir.DataType.FLOAT)))]
        model.graph.outputs[:] = [tape.op(
            'Concat', columns, dict(axis=1), output=ir.val(
                DETECTIONS, ir.DataType.FLOAT, ['found', 6]))]
        return ir.passes.PassResult(model, True)
