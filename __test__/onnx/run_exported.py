"""Runs exported ONNX files with onnxruntime and holds their logits against flatmin's.

A JSON line on stdin: {"onnx": file, "images": numbers, "shape": [batch, channels, height, width], "logits": numbers}; a line out:
{"difference": largest difference of the logits over the largest logit, "batches": the same images one by one against all at once, "names": initializers}.
"""
import json
import sys

import numpy as np
import onnx
import onnxruntime


def answer(asked):
    model = onnx.load(asked["onnx"])
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(asked["onnx"], providers=["CPUExecutionProvider"])
    images = np.array(asked["images"], dtype=np.float32).reshape(asked["shape"])
    expected = np.array(asked["logits"], dtype=np.float32).reshape(len(images), -1)
    (logits,) = session.run(["logits"], {"images": images})
    apart = np.concatenate([session.run(["logits"], {"images": image[None]})[0] for image in images])
    scale = np.abs(expected).max()
    return {
        "difference": float(np.abs(logits - expected).max() / scale),
        "batches": float(np.abs(apart - logits).max() / scale),
        "names": [tensor.name for tensor in model.graph.initializer],
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }


def main():
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except Exception as error:  # whatever the checker and the runtime object to is the test's answer
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
