"""Takes Silero's model out of its package. Usage: silero_model.py FOLDER, with the package in FOLDER/wheels."""

import pathlib
import sys
import zipfile

folder = pathlib.Path(sys.argv[1])
(wheel,) = (folder / "wheels").glob("silero_vad-*.whl")
model = zipfile.ZipFile(wheel).read("silero_vad/data/silero_vad_op18_ifless.onnx")
(folder / "silero_vad.onnx").write_bytes(model)
