//! ONNX bytes to and from the graph IR.
