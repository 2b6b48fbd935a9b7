"""Models as they are written to ONNX: at one sampling frequency, for one length."""
