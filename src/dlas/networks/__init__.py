"""Networks of torch and ONNX: counted, exported, trained."""
