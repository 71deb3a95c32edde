"""The identity model for Triton's Python backend."""

import triton_python_backend_utils as triton


class TritonPythonModel:
    """Gives every request its input back."""

    def execute(self, requests: list) -> list:
        """Answers the requests of one batch."""
        return [self.answer(request) for request in requests]

    def answer(self, request: object) -> object:
        """Answers one request."""
        x = triton.get_input_tensor_by_name(request, "x").as_numpy()
        return triton.InferenceResponse([triton.Tensor("y", x)])
